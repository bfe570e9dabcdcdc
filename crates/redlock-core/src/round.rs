//! One question to all nodes at once: the only place that fans out.

use std::{mem, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::runtime::Handle;

use crate::{
    BackendError, BackendErrorKind, LockBackend, LockValue, Resources, Vote, Votes,
    chain::Turn,
    clock::{Instant, after, sleep_until, timeout_at},
    quorum::{Outcome, Tally},
    release::release_again,
};

/// What is asked of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Acquire(Duration),
    Extend(Duration),
    Release,
}

/// One operation on one node.
pub(crate) struct Ask {
    pub(crate) node: usize,
    pub(crate) backend: Arc<dyn LockBackend>,
    pub(crate) resources: Resources,
    pub(crate) value: LockValue,
    pub(crate) operation: Operation,
    /// How long a failed release is repeated in the background.
    pub(crate) cleanup: Duration,
}

pub(crate) struct Answer {
    node: usize,
    result: Result<Vote, BackendError>,
}

impl Ask {
    pub(crate) async fn send(&self) -> Result<Vote, BackendError> {
        let Self {
            backend,
            resources,
            value,
            ..
        } = self;
        let sent = async {
            match self.operation {
                Operation::Acquire(ttl) => backend.acquire(resources, value, ttl).await,
                Operation::Extend(ttl) => backend.extend(resources, value, ttl).await,
                Operation::Release => backend.release(resources, value).await,
            }
        };
        let panicked = |_| {
            Err(BackendError::new(
                BackendErrorKind::Server,
                "the backend panicked",
            ))
        };
        AssertUnwindSafe(sent)
            .catch_unwind()
            .await
            .unwrap_or_else(panicked)
    }

    /// Asks when it is this operation's turn.
    pub(crate) async fn answer(self, turn: Turn, runtime: Handle) -> Answer {
        let node = self.node;
        let result = match turn {
            Turn::Now(done) => {
                let result = self.send().await;
                let _ = done.send(match &result {
                    Ok(vote) => *vote == Vote::Granted,
                    Err(error) => error.may_have_happened(),
                });
                result
            }
            Turn::After(chain) => {
                let may_hold = chain.ended().await;
                let result = self.send().await;
                if may_hold && result.is_err() {
                    runtime.spawn(release_again(self));
                }
                result
            }
        };
        Answer { node, result }
    }
}

/// The operations under way on all nodes, and the votes so far.
///
/// Dropping it loses nothing: what has not been answered goes on in the background.
pub(crate) struct Round<F: Future<Output = Answer> + Send + 'static> {
    pub(crate) under_way: FuturesUnordered<F>,
    pub(crate) started: Instant,
    /// How long an operation goes on in the background.
    pub(crate) limit: Duration,
    pub(crate) tally: Tally,
    pub(crate) votes: Votes,
    pub(crate) runtime: Handle,
}

impl<F: Future<Output = Answer> + Send + 'static> Round<F> {
    /// Takes votes until they are `enough`, all are in, or the deadline has come.
    pub(crate) async fn collect(&mut self, deadline: Instant, enough: impl Fn(&Self) -> bool) {
        let mut expired = pin!(sleep_until(deadline));
        while !enough(self) {
            tokio::select! {
                biased;
                answer = self.under_way.next() => match answer {
                    Some(Answer { node, result }) => self.cast(node, result),
                    None => break,
                },
                () = &mut expired => break,
            }
        }
    }

    /// The outcome; nodes that have not answered by the deadline have failed.
    ///
    /// It is certain early; `at_once` says whether the other votes are of no interest then.
    pub(crate) async fn decide(
        mut self,
        deadline: Instant,
        at_once: impl Fn(Outcome) -> bool,
    ) -> (Outcome, Votes) {
        let enough = |round: &Self| round.tally.outcome().is_some_and(&at_once);
        self.collect(deadline, enough).await;
        for node in self.votes.pending().collect::<Vec<_>>() {
            if self.tally.outcome().is_some_and(&at_once) {
                break;
            }
            self.cast(node, Err(BackendError::timeout()));
        }
        let outcome = self.tally.outcome().expect("all votes are cast");
        let votes = mem::replace(&mut self.votes, Votes::new([]));
        (outcome, votes)
    }

    fn cast(&mut self, node: usize, result: Result<Vote, BackendError>) {
        match result {
            Ok(Vote::Granted) => self.tally.grant(),
            Ok(Vote::Refused) => self.tally.refuse(),
            Err(_) => self.tally.fail(),
        }
        self.votes.cast(node, result, self.started.elapsed());
    }
}

impl<F: Future<Output = Answer> + Send + 'static> Drop for Round<F> {
    fn drop(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        // Only the plain operations move on: a task that held something which spawns when it is
        // dropped would spawn without end while a runtime shuts down.
        let mut under_way = mem::take(&mut self.under_way);
        let deadline = after(self.started, self.limit);
        self.runtime.spawn(async move {
            let rest = async { while under_way.next().await.is_some() {} };
            let _ = timeout_at(deadline, rest).await;
        });
    }
}
