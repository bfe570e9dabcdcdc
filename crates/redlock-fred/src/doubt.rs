//! Which acquires may still be on their way.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use redlock_core::{LockBackend, LockValue, Resources, Vote, retry::backoff};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use crate::node::Node;

/// For how long an acquire may be on its way.
const GRACE: Duration = Duration::from_secs(60);
/// The first and the longest pause between two releases.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// For how many acquires at one time the release is repeated.
const CHASES: usize = 1000;

/// The acquires that got no answer.
///
/// A release over a new connection can overtake such an acquire, which would then leave a lock that
/// nobody holds, and fred cannot write to the old one. The release is therefore repeated.
pub(crate) struct Doubts {
    table: Mutex<Table>,
    chases: Arc<Semaphore>,
}

struct Table {
    /// Whether the acquire of a value is still unanswered, and when it was sent.
    open: HashMap<LockValue, (Arc<AtomicBool>, Instant)>,
    /// At how many those are thrown away that nobody has asked for.
    sweep_at: usize,
}

impl Doubts {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::new(Table {
                open: HashMap::new(),
                sweep_at: 64,
            }),
            chases: Arc::new(Semaphore::new(CHASES)),
        }
    }

    pub(crate) fn add(&self, value: &LockValue, open: Arc<AtomicBool>) {
        let now = Instant::now();
        let mut table = self.table();
        if table.open.len() >= table.sweep_at {
            table.open.retain(|_, (_, since)| now < *since + GRACE);
            table.sweep_at = 64.max(2 * table.open.len());
        }
        table.open.insert(value.clone(), (open, now));
    }

    /// Repeats the release of this value in the background if its acquire is in doubt.
    pub(crate) fn release(&self, node: Weak<Node>, resources: &Resources, value: &LockValue) {
        let Some((open, since)) = self.table().open.remove(value) else {
            return;
        };
        let Ok(permit) = Arc::clone(&self.chases).try_acquire_owned() else {
            return;
        };
        let (resources, value) = (resources.clone(), value.clone());
        tokio::spawn(async move {
            for pause in backoff(PAUSES.0, PAUSES.1) {
                sleep(pause).await;
                // A node that was dropped must not keep its connection.
                let Some(backend) = node.upgrade().map(|node| node.backend()) else {
                    break;
                };
                // Once it is answered, a release that is sent now comes after it.
                let answered = !open.load(SeqCst);
                match backend.release(&resources, &value).await {
                    Ok(Vote::Granted) => break,
                    Ok(Vote::Refused) if answered => break,
                    _ if since.elapsed() > GRACE => break,
                    _ => {}
                }
            }
            drop(permit);
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
