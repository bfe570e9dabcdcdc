//! A node in this process's memory, for tests and for a first look.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use crate::{BackendError, Holder, Instant, LockBackend, LockValue, Resources, Vote, clock::after};

/// A node that lives in memory and follows tokio's clock, also when that is paused.
///
/// Clones are the same node. Locks of several such nodes exclude each other within this process only.
#[derive(Clone)]
pub struct MemoryBackend {
    number: u64,
    keys: Arc<Mutex<Keys>>,
}

#[derive(Default)]
struct Keys {
    map: HashMap<String, Key>,
    /// At how many keys those that have expired are thrown away.
    sweep_at: usize,
}

struct Key {
    value: LockValue,
    expires: Instant,
}

impl MemoryBackend {
    /// A node that holds nothing.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "every node is a different one")]
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            keys: Arc::default(),
        }
    }

    /// Who holds a resource now.
    #[must_use]
    pub fn holder(&self, resource: &str) -> Option<LockValue> {
        self.keys().live(resource).map(|key| key.value.clone())
    }

    /// How many resources are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        let mut keys = self.keys();
        keys.sweep();
        keys.map.len()
    }

    /// Forgets everything, as a server that restarts without persistence.
    pub fn forget(&self) {
        self.keys().map.clear();
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    fn live(&mut self, name: &str) -> Option<&mut Key> {
        let now = Instant::now();
        self.map.get_mut(name).filter(|key| now < key.expires)
    }

    fn carries(&mut self, name: &str, value: &LockValue) -> bool {
        self.live(name).is_some_and(|key| key.value == *value)
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        self.map.retain(|_, key| now < key.expires);
        self.sweep_at = 64.max(2 * self.map.len());
    }
}

#[async_trait]
impl LockBackend for MemoryBackend {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let mut keys = self.keys();
        if keys.map.len() >= keys.sweep_at {
            keys.sweep();
        }
        let free = resources.iter().all(|name| keys.live(name).is_none());
        if free {
            let expires = after(Instant::now(), ttl);
            keys.map.extend(resources.iter().map(|name| {
                let value = value.clone();
                (name.clone(), Key { value, expires })
            }));
        }
        Ok(Vote::granted_if(free))
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        let mut keys = self.keys();
        let mut all = true;
        for name in resources.iter() {
            if keys.carries(name, value) {
                keys.map.remove(name);
            } else {
                all = false;
            }
        }
        Ok(Vote::granted_if(all))
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let mut keys = self.keys();
        let granted = resources.iter().all(|name| keys.carries(name, value));
        if granted {
            let expires = after(Instant::now(), ttl);
            for name in resources.iter() {
                let key = keys.live(name).expect("found above");
                key.expires = key.expires.max(expires);
            }
        }
        Ok(Vote::granted_if(granted))
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        let mut keys = self.keys();
        let holder = keys.live(resource).map(|key| {
            let remaining = key.expires.saturating_duration_since(Instant::now());
            Holder::new(&key.value, remaining)
        });
        Ok(holder)
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        Some(format!("memory {}", self.number).into())
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend")
            .field("number", &self.number)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}
