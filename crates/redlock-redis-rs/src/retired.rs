//! Connections that are not used any more but may still carry a `SET` to the server.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redlock_core::{LockBackend, LockValue, Resources, redis::RedisBackend};
use tokio::{runtime::Handle, time::timeout};

use crate::connection::{ConnectionClient, Shareable};

/// For how long a connection that does not drain is kept.
const GRACE: Duration = Duration::from_secs(60);

/// How many are kept; beyond that the oldest goes.
const MOST: usize = 16;

pub(crate) type Backend<C> = Arc<RedisBackend<ConnectionClient<C>>>;

pub(crate) struct Retired<C>(Arc<Mutex<Vec<Backend<C>>>>);

impl<C: Shareable> Retired<C> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Keeps a connection until it has drained: where replies come in order, until it answers a PING;
    /// otherwise for a grace.
    pub(crate) fn keep(&self, backend: Backend<C>, replies_in_order: bool) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut kept = lock(&self.0);
        if kept.iter().any(|other| Arc::ptr_eq(other, &backend)) {
            return;
        }
        if kept.len() == MOST {
            kept.remove(0);
        }
        kept.push(Arc::clone(&backend));
        let list = Arc::clone(&self.0);
        runtime.spawn(async move {
            let drained = async {
                if replies_in_order {
                    let _ = backend
                        .client()
                        .query::<redis::Value>(&redis::cmd("PING"))
                        .await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            let _ = timeout(GRACE, drained).await;
            lock(&list).retain(|other| !Arc::ptr_eq(other, &backend));
        });
    }

    /// Writes a release behind whatever these connections still carry.
    pub(crate) fn release(&self, resources: &Resources, value: &LockValue) {
        for backend in lock(&self.0).iter() {
            let backend = Arc::clone(backend);
            let (resources, value) = (resources.clone(), value.clone());
            tokio::spawn(async move {
                let _ = timeout(GRACE, backend.release(&resources, &value)).await;
            });
        }
    }
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
