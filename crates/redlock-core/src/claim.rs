//! Resources and a value, on all nodes: what an attempt, a lock, and the by-value calls have in common.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use crate::{
    LockValue, Redlock, Resources,
    ask::Refusal,
    ballot::{Ballot, Count},
    chain::{Chain, Held},
    clock::{Instant, after},
    round::{self, Operation, Round},
    validity::validity,
};

/// Stands in for a ttl where only the value is known.
pub(crate) const UNKNOWN_TTL: Duration = Duration::from_secs(10);

/// Which nodes are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    All,
    /// This one first.
    First(usize),
}

impl Whom {
    /// Whether this node is asked at once.
    pub(crate) const fn includes(self, node: usize) -> bool {
        match self {
            Self::All => true,
            Self::First(one) => node == one,
        }
    }
}

pub(crate) struct Claim {
    pub(crate) redlock: Redlock,
    pub(crate) resources: Resources,
    pub(crate) value: LockValue,
    /// The longest ttl for which it was asked; zero while only the value is known.
    longest: Duration,
    /// Whether it has been released or lost: nothing is healed any more.
    ended: Arc<AtomicBool>,
    /// Keeps the operations on each node in order.
    chain: Chain,
    /// Where clean-up runs, also when the claim is dropped outside of it.
    runtime: Handle,
    /// The node at which we have waited, as others may: it is asked before the others.
    pub(crate) waited_at: Option<usize>,
    /// Whether a release is of what an attempt has taken that failed.
    pub(crate) undoes: bool,
}

impl Claim {
    /// `held` says whether the nodes carry the value already.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as everything that needs tokio's clock.
    pub(crate) fn new(
        redlock: &Redlock,
        resources: &Resources,
        value: LockValue,
        held: bool,
    ) -> Self {
        Self {
            redlock: redlock.clone(),
            resources: resources.clone(),
            value,
            longest: Duration::ZERO,
            ended: Arc::default(),
            chain: Chain::new(if held { Held::Yes } else { Held::No }),
            runtime: Handle::current(),
            waited_at: None,
            undoes: false,
        }
    }

    /// Asks all nodes; a release also follows whatever is still under way.
    pub(crate) fn ask(
        &mut self,
        operation: Operation,
    ) -> Round<impl Future<Output = Option<Refusal>> + Send + use<>> {
        self.ask_some(operation, Whom::All)
    }

    /// Asks these nodes at once; the others by [`Round::ask_others`].
    pub(crate) fn ask_some(
        &mut self,
        operation: Operation,
        whom: Whom,
    ) -> Round<impl Future<Output = Option<Refusal>> + Send + use<>> {
        if let Operation::Acquire(ttl, _) | Operation::Extend(ttl) = operation {
            self.longest = self.longest.max(ttl);
        }
        let mut chain = Chain::new(Held::No);
        if let Operation::Release = operation {
            self.end();
            chain = self.chain.take();
        }
        let may_last = if self.longest.is_zero() {
            UNKNOWN_TTL
        } else {
            self.longest
        };
        let cleanup = self.redlock.0.settings.cleanup_timeout(may_last);
        let limit = match operation {
            // A release also waits for what is under way, which may take its own limit.
            Operation::Release => cleanup.saturating_mul(2),
            Operation::Acquire(..) | Operation::Extend(_) => cleanup,
        };
        let ballot = Arc::new(Ballot {
            redlock: self.redlock.clone(),
            resources: self.resources.clone(),
            value: self.value.clone(),
            operation,
            undoes: self.undoes,
            chain,
            cleanup,
            limit,
            longest: self.longest,
            lock_ended: Arc::clone(&self.ended),
            runtime: Handle::try_current().unwrap_or_else(|_| self.runtime.clone()),
            started: Instant::now(),
            count: Mutex::new(Count::new(&self.redlock, whom)),
        });
        match operation {
            Operation::Acquire(..) => self.chain.add(&ballot, false),
            Operation::Extend(_) => self.chain.add(&ballot, true),
            Operation::Release => {}
        }
        let mut round = round::begin(ballot);
        let first = self.waited_at.unwrap_or(0);
        let nodes = (first..self.redlock.0.nodes.len()).chain(0..first);
        round.ask(nodes.filter(|node| whom.includes(*node)));
        round
    }

    /// From now on nothing is healed.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// When a node's vote is given up that is asked now.
    pub(crate) fn vote_deadline(&self, asked: Instant, ttl: Duration) -> Instant {
        after(asked, self.redlock.0.settings.node_timeout(ttl))
    }

    /// When what does not decide is waited for no longer, though a vote still would be until the deadline.
    pub(crate) fn soon(start: Instant, deadline: Instant) -> Instant {
        after(start, deadline.saturating_duration_since(start) / 4)
    }

    /// How long a lock with this ttl may be relied on, from when it was asked for.
    pub(crate) fn valid_for(&self, ttl: Duration) -> Duration {
        validity(ttl, self.redlock.0.settings.drift_factor)
    }

    /// Until when a lock may be relied on that was asked for at `start`.
    pub(crate) fn valid_until(&self, start: Instant, ttl: Duration) -> Instant {
        after(start, self.valid_for(ttl))
    }
}
