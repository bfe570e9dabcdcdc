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

use crate::{
    BackendError, FencingToken, Holder, Instant, LockBackend, LockValue, Proposal, Resources, Vote,
    clock::{after, unix_micros},
};

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
    fences: HashMap<String, Fence>,
    /// At how many keys those that have expired are thrown away.
    sweep_at: usize,
}

struct Key {
    value: LockValue,
    expires: Instant,
}

struct Fence {
    token: FencingToken,
    /// `None` for never.
    expires: Option<Instant>,
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
        *self.keys() = Keys::default();
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

    /// Throws away what has expired, if there may be much of it.
    fn tidy(&mut self) {
        if self.map.len() + self.fences.len() >= self.sweep_at {
            self.sweep();
            self.sweep_at = 64.max(2 * (self.map.len() + self.fences.len()));
        }
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        self.map.retain(|_, key| now < key.expires);
        self.fences.retain(|_, fence| fence.is_live(now));
    }

    fn are_free(&mut self, resources: &Resources) -> bool {
        resources.iter().all(|name| self.live(name).is_none())
    }

    fn set(&mut self, resources: &Resources, value: &LockValue, ttl: Duration) {
        let expires = after(Instant::now(), ttl);
        self.map.extend(resources.iter().map(|name| {
            let value = value.clone();
            (name.clone(), Key { value, expires })
        }));
    }
}

impl Fence {
    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
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
        keys.tidy();
        let free = keys.are_free(resources);
        if free {
            keys.set(resources, value, ttl);
        }
        Ok(Vote::granted_if(free))
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let mut keys = self.keys();
        keys.tidy();
        if !keys.are_free(resources) {
            return Ok(Vote::Refused);
        }
        let now = Instant::now();
        let live = |name| {
            keys.fences
                .get(name)
                .filter(|fence: &&Fence| fence.is_live(now))
        };
        let fences = resources
            .iter()
            .filter_map(|name| live(name).map(|fence| fence.token));
        proposal
            .admit(fences, unix_micros())
            .map_err(BackendError::token_refused)?;
        let expires = proposal.keep_for().map(|lifetime| after(now, lifetime));
        let token = proposal.token();
        keys.fences.extend(
            resources
                .iter()
                .map(|name| (name.clone(), Fence { token, expires })),
        );
        keys.set(resources, value, ttl);
        Ok(Vote::Granted)
    }

    fn supports_fencing(&self) -> bool {
        true
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
