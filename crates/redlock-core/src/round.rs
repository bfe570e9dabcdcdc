//! One vote of all nodes at once: the only place that asks for votes.

use std::{
    future::poll_fn,
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{runtime::Handle, sync::oneshot};
use tracing::Instrument;

use crate::{
    BackendError, BackendErrorKind, LockValue, Proposal, Redlock, Resources, Vote, Votes,
    caught::caught,
    chain::{Held, Turn},
    clock::{Instant, after, sleep_until, timeout_at},
    quorum::{Outcome, Tally},
    telemetry::Event,
};

/// What is asked of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Acquire(Duration, Option<Proposal>),
    Extend(Duration),
    Release,
}

/// One operation on one node.
pub(crate) struct Ask {
    pub(crate) redlock: Redlock,
    pub(crate) node: usize,
    pub(crate) resources: Resources,
    pub(crate) value: LockValue,
    pub(crate) operation: Operation,
    /// How long a failed release is repeated in the background.
    pub(crate) cleanup: Duration,
    /// The longest ttl for which the lock was ever asked.
    pub(crate) longest: Duration,
    /// Whether the lock has been released or lost.
    pub(crate) ended: Arc<AtomicBool>,
}

pub(crate) struct Answer {
    node: usize,
    result: Result<Vote, BackendError>,
    refusal: Option<Refusal>,
}

/// An extension that a node refused: it has lost the keys, or never had them.
struct Refusal {
    ask: Ask,
    done: oneshot::Sender<Held>,
}

impl Ask {
    pub(crate) async fn send(&self) -> Result<Vote, BackendError> {
        let Self {
            resources, value, ..
        } = self;
        let backend = &self.redlock.0.nodes[self.node].backend;
        let sent = async {
            match self.operation {
                Operation::Acquire(ttl, None) => backend.acquire(resources, value, ttl).await,
                Operation::Acquire(ttl, Some(proposal)) => {
                    let asked = backend.acquire_fenced(resources, value, ttl, proposal);
                    asked.await
                }
                Operation::Extend(ttl) => backend.extend(resources, value, ttl).await,
                Operation::Release => backend.release(resources, value).await,
            }
        };
        let asked = Instant::now();
        let answer = caught(sent).await;
        self.redlock
            .0
            .answered(self.node, self.operation, &answer, asked.elapsed());
        answer
    }

    /// Asks when it is this operation's turn.
    pub(crate) async fn answer(self, turn: Turn, runtime: Handle) -> Answer {
        let node = self.node;
        let mut refusal = None;
        let result = match turn {
            Turn::Now(done) => {
                let result = self.send().await;
                let held = match (self.operation, &result) {
                    (_, Ok(Vote::Granted)) => Held::Yes,
                    (Operation::Acquire(..), Err(error)) if error.may_have_happened() => {
                        Held::Unknown
                    }
                    // An extension sets nothing.
                    (_, Ok(Vote::Refused) | Err(_)) => Held::No,
                };
                if let (Operation::Extend(_), Ok(Vote::Refused)) = (self.operation, &result) {
                    refusal = Some(Refusal { ask: self, done });
                } else {
                    let _ = done.send(held);
                }
                result
            }
            Turn::After(chain) => self.release(chain, runtime).await,
        };
        Answer {
            node,
            result,
            refusal,
        }
    }
}

impl Refusal {
    /// Leaves the node as it is.
    fn accept(self) {
        let _ = self.done.send(Held::No);
    }

    /// Sets the keys again, unless the lock has ended meanwhile or somebody else has them.
    async fn heal(self, valid_until: Instant) {
        if self.ask.ended.load(Ordering::Acquire) || Instant::now() >= valid_until {
            return self.accept();
        }
        let Self { mut ask, done } = self;
        // For as long as the lock may be valid, which a shorter extension leaves as it was. Its token, if it
        // has one, has been counted.
        ask.operation = Operation::Acquire(ask.longest, None);
        let answer = ask.send().await;
        let _ = done.send(match answer {
            Ok(Vote::Granted) => Held::Yes,
            Ok(Vote::Refused) => Held::No,
            Err(_) => Held::Unknown,
        });
        if let Ok(Vote::Granted) = answer {
            ask.redlock.0.emit(Event::Healed {
                resources: ask.resources,
                node: Arc::clone(&ask.redlock.0.nodes[ask.node].name),
            });
        }
    }
}

/// The operations under way on all nodes, and the votes so far.
///
/// Dropping it loses nothing: what has not been answered goes on in the background.
pub(crate) struct Round<F: Future<Output = Answer> + Send + 'static> {
    pub(crate) redlock: Redlock,
    pub(crate) operation: Operation,
    pub(crate) under_way: FuturesUnordered<F>,
    pub(crate) started: Instant,
    /// How long an operation goes on in the background.
    pub(crate) limit: Duration,
    pub(crate) runtime: Handle,
    tally: Tally,
    pub(crate) votes: Votes,
    refusals: Vec<Refusal>,
}

impl<F: Future<Output = Answer> + Send + 'static> Round<F> {
    pub(crate) fn new(
        redlock: &Redlock,
        operation: Operation,
        asks: impl Iterator<Item = F>,
        limit: Duration,
        runtime: &Handle,
    ) -> Self {
        let nodes = &redlock.0.nodes;
        Self {
            redlock: redlock.clone(),
            operation,
            under_way: asks.collect(),
            started: Instant::now(),
            limit,
            runtime: runtime.clone(),
            tally: Tally::new(nodes.len()),
            votes: Votes::new(nodes.iter().map(|node| &node.name)),
            refusals: Vec::new(),
        }
    }

    /// Takes votes until they are `enough`, all are in, or the deadline has come.
    pub(crate) async fn collect(
        &mut self,
        deadline: Instant,
        enough: impl Fn(&Tally, &Votes) -> bool,
    ) {
        let mut expired = pin!(sleep_until(deadline));
        poll_fn(|context| {
            // All that is ready counts, and every operation is begun before the first one decides.
            while let Poll::Ready(Some(answer)) = self.under_way.poll_next_unpin(context) {
                self.cast(answer.node, answer.result);
                self.refusals.extend(answer.refusal);
            }
            if enough(&self.tally, &self.votes) || self.under_way.is_empty() {
                Poll::Ready(())
            } else {
                expired.as_mut().poll(context)
            }
        })
        .await;
    }

    /// The outcome; nodes that have not answered by the deadline have failed.
    ///
    /// It is certain early; `at_once` says whether the other votes are of no interest then.
    pub(crate) async fn decide(
        &mut self,
        deadline: Instant,
        at_once: impl Fn(Outcome) -> bool,
    ) -> (Outcome, Votes) {
        let decided = |tally: &Tally| tally.outcome().is_some_and(&at_once);
        self.collect(deadline, |tally, _| decided(tally)).await;
        for node in self.votes.pending().collect::<Vec<_>>() {
            if decided(&self.tally) {
                break;
            }
            let late = Err(BackendError::timeout());
            self.redlock
                .0
                .answered(node, self.operation, &late, self.started.elapsed());
            self.cast(node, late);
        }
        let outcome = self.tally.outcome().expect("all votes are cast");
        (outcome, mem::replace(&mut self.votes, Votes::new([])))
    }

    pub(crate) fn cast(&mut self, node: usize, result: Result<Vote, BackendError>) {
        match &result {
            Ok(Vote::Granted) => self.tally.grant(),
            Ok(Vote::Refused) => self.tally.refuse(),
            // An answer all the same.
            Err(error) if error.kind() == BackendErrorKind::TokenRefused => self.tally.refuse(),
            Err(_) => self.tally.fail(),
        }
        self.votes.cast(node, result, self.started.elapsed());
    }

    /// After a quorum of true extensions: sets the keys again, in the background, on the nodes that refuse
    /// the extension. These votes never count.
    pub(crate) fn heal(mut self, valid_until: Instant) {
        let mut under_way = mem::take(&mut self.under_way);
        let heal = move |refusal: Refusal| refusal.heal(valid_until);
        let mut healing: FuturesUnordered<_> = mem::take(&mut self.refusals)
            .into_iter()
            .map(heal)
            .collect();
        if under_way.is_empty() && healing.is_empty() {
            return;
        }
        self.in_background(async move {
            loop {
                tokio::select! {
                    biased;
                    Some(answer) = under_way.next() => healing.extend(answer.refusal.map(heal)),
                    Some(()) = healing.next() => {}
                    else => break,
                }
            }
        });
    }

    fn in_background(&self, rest: impl Future<Output = ()> + Send + 'static) {
        let deadline = after(self.started, self.limit);
        let bounded = async move {
            let _ = timeout_at(deadline, rest).await;
        };
        let runtime = Handle::try_current().unwrap_or_else(|_| self.runtime.clone());
        runtime.spawn(bounded.in_current_span());
    }
}

impl<F: Future<Output = Answer> + Send + 'static> Drop for Round<F> {
    fn drop(&mut self) {
        self.refusals.drain(..).for_each(Refusal::accept);
        // Only the plain operations move on: a task that held something which spawns when it is
        // dropped would spawn without end while a runtime shuts down.
        let mut under_way = mem::take(&mut self.under_way);
        if !under_way.is_empty() {
            self.in_background(async move {
                while let Some(answer) = under_way.next().await {
                    answer.refusal.into_iter().for_each(Refusal::accept);
                }
            });
        }
    }
}
