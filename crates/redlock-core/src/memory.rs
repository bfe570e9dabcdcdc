//! A node in this process's memory, for tests and for a first look.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    BackendError, FencingToken, Holder, Instant, LockBackend, LockValue, Place, Proposal,
    Resources, TURN, Vote, Wake,
    clock::{after, sleep_until, unix_micros},
    wait::Awaited,
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
    lines: HashMap<String, Line>,
    awaited: Awaited,
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

/// Those who wait for a resource.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Arc<Notify>>,
    /// Whose turn it is, and until when.
    turn: Option<(Arc<Notify>, Instant)>,
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
        let before = std::mem::take(&mut *self.keys());
        let waiting = before.lines.values().flat_map(|line| &line.waiting);
        waiting.for_each(|waiter| waiter.notify_one());
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
        self.lines.retain(|_, line| !line.is_over(now));
    }

    /// Deletes those that carry the value; whether all did.
    fn delete(&mut self, resources: &Resources, value: &LockValue) -> bool {
        let mut all = true;
        for name in resources.iter() {
            let carries = self.carries(name, value);
            if carries {
                self.map.remove(name);
            }
            all &= carries;
        }
        all
    }

    /// Gives the turn to the first that waits for this resource; whether there is one.
    fn pass_on(&mut self, name: &str) -> bool {
        let Some(line) = self.lines.get_mut(name) else {
            return false;
        };
        line.turn = line.waiting.pop_front().map(|next| {
            next.notify_one();
            (next, after(Instant::now(), TURN))
        });
        line.turn.is_some()
    }

    /// Stands in line for the first of these resources that is not to be had, and says until when it is not.
    fn line_up(
        &mut self,
        resources: &Resources,
        waiter: &Arc<Notify>,
        place: Option<Place>,
    ) -> Option<Instant> {
        let now = Instant::now();
        let held = |name: &&String| {
            let key = self.map.get(*name);
            key.is_some_and(|key| now < key.expires)
        };
        let place_at = if let Some(name) = resources.iter().find(held) {
            Some((name, self.map[name].expires))
        } else if place == Some(Place::First) {
            None
        } else {
            resources.iter().find_map(|name| {
                let (whose, until) = self.lines.get(name)?.turn.as_ref()?;
                let theirs = now < *until && !Arc::ptr_eq(whose, waiter);
                theirs.then_some((name, *until))
            })
        };
        // In one line alone: a turn in another would be lost.
        for name in resources.iter() {
            if place_at.is_none_or(|(it, _)| it != name)
                && let Some(line) = self.lines.get_mut(name)
            {
                line.forget(waiter);
            }
        }
        let (name, until) = place_at?;
        let line = self.lines.entry(name.clone()).or_default();
        line.stand(waiter, place);
        Some(until)
    }

    /// Stands in line no longer.
    fn step_out(&mut self, resources: &Resources, waiter: &Arc<Notify>) {
        for name in resources.iter() {
            let Some(line) = self.lines.get_mut(name) else {
                continue;
            };
            line.waiting.retain(|other| !Arc::ptr_eq(other, waiter));
            let ours = line
                .turn
                .as_ref()
                .is_some_and(|(whose, _)| Arc::ptr_eq(whose, waiter));
            if ours && self.live(name).is_none() {
                self.pass_on(name);
            }
        }
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

impl Line {
    fn is_over(&self, now: Instant) -> bool {
        self.waiting.is_empty() && self.turn.as_ref().is_none_or(|(_, until)| *until <= now)
    }

    fn stand(&mut self, waiter: &Arc<Notify>, place: Option<Place>) {
        if self.waiting.iter().any(|other| Arc::ptr_eq(other, waiter)) {
            return;
        }
        match place {
            Some(Place::First) => self.waiting.push_front(Arc::clone(waiter)),
            Some(Place::Last) | None => self.waiting.push_back(Arc::clone(waiter)),
        }
    }

    fn forget(&mut self, waiter: &Arc<Notify>) {
        self.waiting.retain(|other| !Arc::ptr_eq(other, waiter));
        self.turn = None;
    }
}

/// One who waits at a node, until it is dropped.
struct Waiter<'a> {
    node: &'a MemoryBackend,
    resources: &'a Resources,
    told: Arc<Notify>,
    /// Whether it has what it waited for.
    done: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.node.keys().step_out(self.resources, &self.told);
        }
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
        let all = keys.delete(resources, value);
        for name in resources.iter() {
            if keys.live(name).is_none() && keys.pass_on(name) {
                keys.awaited.note(resources, Instant::now());
            }
        }
        Ok(Vote::granted_if(all))
    }

    async fn undo(&self, resources: &Resources, value: &LockValue) -> Result<Vote, BackendError> {
        Ok(Vote::granted_if(self.keys().delete(resources, value)))
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

    async fn wait(&self, resources: &Resources, place: Place) -> Result<Wake, BackendError> {
        let mut waiter = Waiter {
            node: self,
            resources,
            told: Arc::default(),
            done: false,
        };
        let mut place = Some(place);
        loop {
            let held_until = self.keys().line_up(resources, &waiter.told, place);
            let Some(held_until) = held_until else {
                waiter.done = true;
                return Ok(Wake::Free);
            };
            tokio::select! {
                biased;
                () = waiter.told.notified() => {
                    waiter.done = true;
                    return Ok(Wake::Turn);
                }
                () = sleep_until(held_until) => place = None,
            }
        }
    }

    fn is_awaited(&self, resources: &Resources) -> bool {
        self.keys().awaited.contains(resources, Instant::now())
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
