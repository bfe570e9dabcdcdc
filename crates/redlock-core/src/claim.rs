//! Resources and a value, on all nodes: what an attempt, a lock, and the by-value calls have in common.

use std::{iter, time::Duration};

use tokio::runtime::Handle;

use crate::{
    LockValue, Redlock, Resources, Votes,
    chain::Chain,
    clock::Instant,
    quorum::Tally,
    round::{Answer, Ask, Operation, Round},
};

pub(crate) struct Claim {
    pub(crate) redlock: Redlock,
    pub(crate) resources: Resources,
    pub(crate) value: LockValue,
    /// Keeps the operations on each node in order.
    chains: Box<[Chain]>,
    /// Where clean-up runs, also when the claim is dropped outside of it.
    runtime: Handle,
}

impl Claim {
    /// `held` says whether the nodes may carry the value already.
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
            chains: iter::repeat_with(|| Chain::new(held))
                .take(redlock.0.nodes.len())
                .collect(),
            runtime: Handle::current(),
        }
    }

    /// Asks all nodes; a release follows whatever is still under way. `ttl` is that of the lock.
    pub(crate) fn ask(
        &mut self,
        operation: Operation,
        ttl: Duration,
    ) -> Round<impl Future<Output = Answer> + Send + use<>> {
        let cleanup = self.redlock.0.settings.cleanup_timeout(ttl);
        let nodes = &self.redlock.0.nodes;
        let asks = nodes.iter().zip(&mut self.chains).enumerate();
        Round {
            under_way: asks
                .map(|(index, (node, chain))| {
                    let ask = Ask {
                        node: index,
                        backend: node.backend.clone(),
                        resources: self.resources.clone(),
                        value: self.value.clone(),
                        operation,
                        cleanup,
                    };
                    let turn = match operation {
                        Operation::Release => chain.after(),
                        Operation::Acquire(_) | Operation::Extend(_) => chain.now(),
                    };
                    ask.answer(turn, self.runtime.clone())
                })
                .collect(),
            started: Instant::now(),
            limit: match operation {
                // A release first waits for the operation before it, which may take its own limit.
                Operation::Release => cleanup.saturating_mul(2),
                Operation::Acquire(_) | Operation::Extend(_) => cleanup,
            },
            tally: Tally::new(nodes.len()),
            votes: Votes::new(nodes.iter().map(|node| &node.name)),
            runtime: self.runtime.clone(),
        }
    }

    /// When a node's vote is given up that is asked now.
    pub(crate) fn vote_deadline(&self, asked: Instant, ttl: Duration) -> Instant {
        crate::clock::after(asked, self.redlock.0.settings.node_timeout(ttl))
    }

    /// Until when a lock may be relied on that was asked for at `start`.
    pub(crate) fn valid_until(&self, start: Instant, ttl: Duration) -> Instant {
        let factor = self.redlock.0.settings.drift_factor;
        crate::clock::after(start, crate::validity::validity(ttl, factor))
    }
}
