//! Which acquires may still be on their way, and on which connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redlock_core::{LockBackend, LockValue, Resources};
use tokio::time::{Instant, timeout};

use crate::{connection::Shareable, line::Line};

/// For how long a connection is kept that may still carry an acquire to the server.
const GRACE: Duration = Duration::from_secs(60);

/// The connections on which the acquires were sent that got no answer.
///
/// A release over another connection could overtake such an acquire, which would then leave a lock that
/// nobody holds. It is therefore also written behind it, on its own connection.
pub(crate) struct Doubts<C>(Mutex<Table<C>>);

struct Table<C> {
    lines: HashMap<LockValue, (Arc<Line<C>>, Instant)>,
    /// At how many those are thrown away that nobody has asked for.
    sweep_at: usize,
}

impl<C: Shareable> Doubts<C> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table {
            lines: HashMap::new(),
            sweep_at: 64,
        }))
    }

    /// An acquire of this value was sent on this connection and got no answer.
    pub(crate) fn add(&self, value: &LockValue, line: &Arc<Line<C>>) {
        let now = Instant::now();
        let mut table = self.table();
        if table.lines.len() >= table.sweep_at {
            table.lines.retain(|_, (_, until)| now < *until);
            table.sweep_at = 64.max(2 * table.lines.len());
        }
        table
            .lines
            .insert(value.clone(), (Arc::clone(line), now + GRACE));
    }

    /// Writes a release of this value behind its acquire, if that is in doubt and was sent on another
    /// connection than `present`.
    pub(crate) fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
        present: Option<&Arc<Line<C>>>,
    ) {
        let mut table = self.table();
        // Mostly there is none.
        let line = if table.lines.is_empty() {
            None
        } else {
            table.lines.remove(value)
        };
        drop(table);
        let Some((line, _)) = line else {
            return;
        };
        if present.is_some_and(|present| Arc::ptr_eq(present, &line)) {
            return;
        }
        let (resources, value) = (resources.clone(), value.clone());
        tokio::spawn(async move {
            let _ = timeout(GRACE, line.backend.release(&resources, &value)).await;
        });
    }

    fn table(&self) -> MutexGuard<'_, Table<C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
