//! The votes of one round, cast from wherever the answers come in.

use std::{
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::runtime::Handle;

use crate::{
    BackendError, BackendErrorKind, LockValue, Redlock, Resources, Vote, Votes,
    chain::{Chain, Held},
    claim::Whom,
    clock::{Instant, after, timeout_at},
    quorum::{Outcome, Tally},
    round::Operation,
};

/// What is asked of all nodes, and what they have said so far.
pub(crate) struct Ballot {
    pub(crate) redlock: Redlock,
    pub(crate) resources: Resources,
    pub(crate) value: LockValue,
    pub(crate) operation: Operation,
    /// Whether it is a release of what an attempt has taken that failed.
    pub(crate) undoes: bool,
    /// What a release follows.
    pub(crate) chain: Chain,
    /// How long a failed release is repeated in the background.
    pub(crate) cleanup: Duration,
    /// How long an operation goes on in the background.
    pub(crate) limit: Duration,
    /// The longest ttl for which the lock was ever asked.
    pub(crate) longest: Duration,
    /// Whether the lock has been released or lost.
    pub(crate) lock_ended: Arc<AtomicBool>,
    /// Where it was asked, or the lock was acquired: what is left to do goes on there.
    pub(crate) runtime: Handle,
    pub(crate) started: Instant,
    pub(crate) count: Mutex<Count>,
}

/// The votes so far, and which nodes carry the value by them.
pub(crate) struct Count {
    tally: Tally,
    /// Until they are handed out.
    votes: Option<Votes>,
    held: Box<[Option<Held>]>,
    /// Waits for the votes, and whether for each of them.
    round: Option<(Waker, bool)>,
    /// Wait for operations to end.
    behind: Vec<Waker>,
}

impl Count {
    pub(crate) fn new(redlock: &Redlock, whom: Whom) -> Self {
        let nodes = &redlock.0.nodes;
        let unasked = |node| (!whom.includes(node)).then_some(Held::No);
        Self {
            tally: Tally::new(nodes.len()),
            votes: Some(Votes::new(&redlock.0.names)),
            held: (0..nodes.len()).map(unasked).collect(),
            round: None,
            behind: Vec::new(),
        }
    }

    fn cast(&mut self, node: usize, result: Result<Vote, BackendError>, took: Duration) {
        let Some(votes) = &mut self.votes else {
            return;
        };
        match &result {
            Ok(Vote::Granted) => self.tally.grant(),
            Ok(Vote::Refused) => self.tally.refuse(),
            // An answer all the same.
            Err(error) if error.kind() == BackendErrorKind::TokenRefused => self.tally.refuse(),
            Err(_) => self.tally.fail(),
        }
        votes.cast(node, result, took);
    }

    /// Whether it had not ended before, and who waits for that.
    fn end(&mut self, node: usize, held: Held) -> (bool, Vec<Waker>) {
        let is_first = self.held[node].is_none();
        self.held[node].get_or_insert(held);
        (is_first, mem::take(&mut self.behind))
    }

    fn take_votes(&mut self) -> Votes {
        self.votes.take().unwrap_or_else(Votes::none)
    }
}

impl Ballot {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a node's answer, unless the votes have been handed out, and wakes the round once it may be decided.
    pub(crate) fn cast(&self, node: usize, result: Result<Vote, BackendError>, took: Duration) {
        Self::cast_in(self.count(), node, result, took);
    }

    /// The operation has [ended](Self::end) with this answer, which is [cast](Self::cast).
    pub(crate) fn end_and_cast(
        &self,
        node: usize,
        held: Held,
        result: Result<Vote, BackendError>,
        took: Duration,
    ) -> bool {
        let mut count = self.count();
        let (is_first, behind) = count.end(node, held);
        Self::cast_in(count, node, result, took);
        behind.into_iter().for_each(Waker::wake);
        is_first
    }

    fn cast_in(
        mut count: MutexGuard<'_, Count>,
        node: usize,
        result: Result<Vote, BackendError>,
        took: Duration,
    ) {
        count.cast(node, result, took);
        let is_decided = count.tally.outcome().is_some();
        let woken = count.round.take_if(|(_, each)| is_decided || *each);
        drop(count);
        if let Some((waker, _)) = woken {
            waker.wake();
        }
    }

    /// Ready when the votes are enough, or all are in. Polled again when an outcome is certain, and from then on,
    /// or with `each`, upon every vote.
    pub(crate) fn poll_votes(
        &self,
        context: &Context<'_>,
        each: bool,
        enough: impl Fn(&Tally, &Votes) -> bool,
    ) -> Poll<()> {
        let mut count = self.count();
        let Some(votes) = &count.votes else {
            return Poll::Ready(());
        };
        if enough(&count.tally, votes) || votes.pending().next().is_none() {
            return Poll::Ready(());
        }
        match &mut count.round {
            Some((waker, wants)) => {
                waker.clone_from(context.waker());
                *wants = each;
            }
            none => *none = Some((context.waker().clone(), each)),
        }
        Poll::Pending
    }

    /// Nobody waits for votes now.
    pub(crate) fn stop_waiting(&self) {
        self.count().round = None;
    }

    /// Hands out the votes with their outcome. While that is not `decided`, the nodes that have not answered
    /// have failed.
    pub(crate) fn close(&self, decided: impl Fn(&Tally) -> bool) -> (Outcome, Votes) {
        let mut count = self.count();
        let late = || Err(BackendError::timeout());
        let took = self.started.elapsed();
        let mut failed = Vec::new();
        while !decided(&count.tally) {
            let next = count.votes.iter().flat_map(Votes::pending).next();
            let Some(node) = next else { break };
            count.cast(node, late(), took);
            failed.push(node);
        }
        let outcome = count.tally.outcome().expect("all votes are cast");
        let votes = count.take_votes();
        drop(count);
        for node in failed {
            let shared = &self.redlock.0;
            shared.answered(node, self.operation, &late(), took);
        }
        (outcome, votes)
    }

    /// Hands out the votes of a round that goes no further.
    pub(crate) fn take_votes(&self) -> Votes {
        self.count().take_votes()
    }

    /// What the node has answered, while the votes have not been handed out.
    pub(crate) fn answer(&self, node: usize) -> Option<Result<Vote, BackendError>> {
        let count = self.count();
        count.votes.as_ref()?.answer(node).cloned()
    }

    /// The node is asked after all.
    pub(crate) fn reopen(&self, node: usize) {
        self.count().held[node] = None;
    }

    /// Whether the node carries the value by this operation; `None` while it is under way.
    pub(crate) fn held(&self, node: usize) -> Option<Held> {
        self.count().held[node]
    }

    /// Adds what all nodes carry by this operation, if it has ended on all of them.
    pub(crate) fn settle(&self, all: &mut Box<[Held]>) -> bool {
        let count = self.count();
        let has_ended = count.held.iter().all(Option::is_some);
        if has_ended {
            if all.is_empty() {
                *all = vec![Held::No; count.held.len()].into();
            }
            for (held, ended) in all.iter_mut().zip(count.held.iter().flatten()) {
                *held = (*held).max(*ended);
            }
        }
        has_ended
    }

    /// Waits for the operation to end on this node, for as long as it may go on.
    pub(crate) async fn ended(&self, node: usize) -> Held {
        let ended = poll_fn(|context| {
            let mut count = self.count();
            if let Some(held) = count.held[node] {
                return Poll::Ready(held);
            }
            if !count.behind.iter().any(|it| it.will_wake(context.waker())) {
                count.behind.push(context.waker().clone());
            }
            Poll::Pending
        });
        let ended = timeout_at(after(self.started, self.limit), ended).await;
        ended.unwrap_or_else(|_| {
            self.end(node, Held::Unknown);
            Held::Unknown
        })
    }

    /// The operation has ended on this node; false if nobody waits for that any more.
    pub(crate) fn end(&self, node: usize, held: Held) -> bool {
        let (is_first, behind) = self.count().end(node, held);
        behind.into_iter().for_each(Waker::wake);
        is_first
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ballot")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}
