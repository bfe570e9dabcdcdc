//! A node: what its server stores, and its clock. No network, no waiting.

use std::time::Duration;

use redlock_core::{CLOCK_TOLERANCE, FencingToken, NextToken, Proposal};

use crate::plan::Memory;

/// Real time since the history began.
pub(crate) type Time = Duration;

/// A lock value, by order of appearance.
pub(crate) type Value = usize;

/// Which resources, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set(pub(crate) u8);

impl Set {
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |resource| self.0 & (1 << resource) != 0)
    }

    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) value: Value,
    pub(crate) expires: Time,
}

#[derive(Clone, Copy, Debug)]
struct Fence {
    token: FencingToken,
    expires: Time,
}

/// The restart guard's mark on the node: which process armed it, and when by the node's clock.
#[derive(Clone, Copy, Debug)]
struct Marker {
    incarnation: u32,
    armed: Time,
}

/// For how long a node has been up when a history begins: long enough to count.
const UP_FOR: Duration = Duration::from_secs(3600);

/// When every history begins, in microseconds since 1970.
pub(crate) const EPOCH: u64 = 1_800_000_000_000_000;

#[derive(Clone, Debug, Default)]
struct Store {
    keys: [Option<Key>; 8],
    fences: [Option<Fence>; 8],
    marker: Option<Marker>,
}

/// A key that a crash destroyed. Until the node votes again it forbids others as well as a key.
#[derive(Debug)]
struct Ghost {
    resource: usize,
    value: Value,
    until: Time,
}

#[derive(Debug)]
pub(crate) struct Node {
    rate: f64,
    /// By how many seconds its wall clock is ahead.
    pub(crate) ahead: i64,
    pub(crate) up: bool,
    /// Which process this is: every start is another.
    pub(crate) incarnation: u32,
    store: Store,
    snapshot: Store,
    ghosts: Vec<Ghost>,
}

impl Node {
    pub(crate) fn new(rate: f64, ahead: i64) -> Self {
        let incarnation = 1;
        let armed = Time::ZERO;
        let store = Store {
            marker: Some(Marker { incarnation, armed }),
            ..Store::default()
        };
        Self {
            rate,
            ahead,
            up: true,
            incarnation,
            store,
            snapshot: Store::default(),
            ghosts: Vec::new(),
        }
    }

    pub(crate) fn key(&self, resource: usize, now: Time) -> Option<Key> {
        self.store.keys[resource].filter(|key| now < key.expires)
    }

    fn carries(&self, resource: usize, value: Value, now: Time) -> bool {
        self.key(resource, now)
            .is_some_and(|key| key.value == value)
    }

    /// Until when nobody else can get this node's vote, if nothing else happens.
    pub(crate) fn covers_until(&self, resource: usize, value: Value, now: Time) -> Option<Time> {
        let key = self.key(resource, now).filter(|key| key.value == value);
        let ghosts = self.ghosts.iter();
        ghosts
            .filter(|ghost| ghost.resource == resource && ghost.value == value)
            .map(|ghost| ghost.until)
            .chain(key.map(|key| key.expires))
            .max()
    }

    pub(crate) fn acquire(&mut self, set: Set, value: Value, ttl: Duration, now: Time) -> bool {
        let free = set.iter().all(|resource| self.key(resource, now).is_none());
        if free {
            let expires = now + ttl.div_f64(self.rate);
            for resource in set.iter() {
                self.store.keys[resource] = Some(Key { value, expires });
            }
        }
        free
    }

    /// The wall clock, in microseconds since 1970: somebody sets it right all the time.
    fn wall_clock(&self, now: Time) -> u64 {
        let micros = EPOCH + u64::try_from(now.as_micros()).expect("days");
        micros.saturating_add_signed(self.ahead * 1_000_000)
    }

    /// The token that it would accept, if it is only the token that it refuses.
    pub(crate) fn acquire_fenced(
        &mut self,
        set: Set,
        value: Value,
        ttl: Duration,
        proposal: Proposal,
        now: Time,
    ) -> Result<bool, NextToken> {
        if set.iter().any(|resource| self.key(resource, now).is_some()) {
            return Ok(false);
        }
        let fences = set.iter().filter_map(|resource| {
            let fence = self.store.fences[resource].filter(|fence| now < fence.expires);
            fence.map(|fence| fence.token)
        });
        proposal.admit(fences, self.wall_clock(now))?;
        let keep_for = proposal.keep_for().expect("not for ever");
        let fence = Fence {
            token: proposal.token(),
            expires: now + keep_for.div_f64(self.rate),
        };
        for resource in set.iter() {
            self.store.fences[resource] = Some(fence);
        }
        Ok(self.acquire(set, value, ttl, now))
    }

    pub(crate) fn extend(&mut self, set: Set, value: Value, ttl: Duration, now: Time) -> bool {
        let held = set.iter().all(|it| self.carries(it, value, now));
        if held {
            let expires = now + ttl.div_f64(self.rate);
            for resource in set.iter() {
                if let Some(key) = &mut self.store.keys[resource] {
                    key.expires = key.expires.max(expires);
                }
            }
        }
        held
    }

    pub(crate) fn release(&mut self, set: Set, value: Value, now: Time) -> bool {
        let mut all = true;
        for resource in set.iter() {
            if self.carries(resource, value, now) {
                self.store.keys[resource] = None;
            } else {
                all = false;
            }
        }
        all
    }

    /// How long ago, by the node's clock, this process was seen first.
    pub(crate) fn examine(&mut self, longest_ttl: Duration, now: Time) -> Duration {
        let clock = UP_FOR + now.mul_f64(self.rate);
        match self.store.marker {
            Some(marker) if marker.incarnation == self.incarnation => {
                clock.saturating_sub(marker.armed)
            }
            _ => {
                let (incarnation, armed) = (self.incarnation, clock);
                self.store.marker = Some(Marker { incarnation, armed });
                for ghost in &mut self.ghosts {
                    ghost.until = now + longest_ttl;
                }
                Duration::ZERO
            }
        }
    }

    pub(crate) fn snapshot(&mut self) {
        self.snapshot = self.store.clone();
    }

    /// It is down from now on; what it will have forgotten is lost at once.
    pub(crate) fn crash(&mut self, memory: Memory, guarded: bool, now: Time) {
        self.up = false;
        let before = self.store.clone();
        match memory {
            Memory::Kept => {}
            Memory::Lost => self.store = Store::default(),
            Memory::Stale => self.store = self.snapshot.clone(),
        }
        if !guarded {
            return;
        }
        for ghost in &mut self.ghosts {
            ghost.until = Time::MAX;
        }
        for (resource, key) in before.keys.iter().enumerate() {
            if let Some(key) = key.filter(|key| now < key.expires) {
                self.ghosts.push(Ghost {
                    resource,
                    value: key.value,
                    until: Time::MAX,
                });
            }
        }
    }

    /// The clock of whatever takes its place may differ by this share of what is tolerated.
    pub(crate) fn restart(&mut self, clock: f64) {
        let tolerance = CLOCK_TOLERANCE.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, reason = "minutes")]
        let shift = (tolerance * clock) as i64;
        self.ahead += shift;
        self.up = true;
        self.incarnation += 1;
        self.snapshot = self.store.clone();
    }
}
