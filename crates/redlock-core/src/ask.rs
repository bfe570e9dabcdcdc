//! One operation on one node.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use tracing::{Instrument, Span};

use crate::{
    BackendError, Reply, Vote, ballot::Ballot, caught::caught, chain::Held, clock::Instant,
    round::Operation, telemetry::Event,
};

/// One node's part in a round. Unless it says otherwise before it is dropped, nobody knows what the node carries.
pub(crate) struct Ask {
    pub(crate) ballot: Arc<Ballot>,
    pub(crate) node: usize,
    pub(crate) asked: Instant,
    pub(crate) has_ended: bool,
    /// Closed when it has ended, however long the lock is held.
    pub(crate) span: Span,
}

/// An extension that a node refused: it has lost the keys, or never had them.
pub(crate) struct Refusal(Ask);

impl Drop for Ask {
    fn drop(&mut self) {
        if !self.has_ended && !matches!(self.ballot.operation, Operation::Release) {
            self.ballot.end(self.node, Held::Unknown);
        }
    }
}

impl Ask {
    /// Begins an operation whose answer comes without being awaited; gives it back if the backend cannot do so now.
    pub(crate) fn begin(self, ballot: &Ballot) -> Result<(), Self> {
        let backend = &ballot.redlock.0.nodes[self.node].backend;
        let (resources, value) = (&ballot.resources, &ballot.value);
        let begun = match ballot.operation {
            Operation::Acquire(ttl, None) => catch_unwind(AssertUnwindSafe(|| {
                backend.begin_acquire(resources, value, ttl, Reply::to(self))
            })),
            Operation::Release if !ballot.undoes => {
                let is_behind = ballot.chain.held(self.node).is_none();
                catch_unwind(AssertUnwindSafe(|| {
                    backend.begin_release(resources, value, Reply::behind(self, is_behind))
                }))
            }
            Operation::Acquire(..) | Operation::Extend(_) | Operation::Release => {
                return Err(self);
            }
        };
        match begun {
            Ok(Err(reply)) => reply.give_back().map_or(Ok(()), Err),
            // A backend that panics has dropped the reply, which counts as a failure.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// The answer to what was begun.
    pub(crate) fn answered(mut self, result: Result<Vote, BackendError>, is_behind: bool) {
        let span = self.span.clone();
        let _entered = span.enter();
        let (ballot, took) = (&*self.ballot, self.asked.elapsed());
        let shared = &ballot.redlock.0;
        shared.answered(self.node, ballot.operation, &result, took);
        if let Operation::Release = ballot.operation {
            if self.is_released(is_behind, &result) {
                ballot.cast(self.node, result, took);
                return;
            }
            let ballot = Arc::clone(&self.ballot);
            let casts = Arc::clone(&ballot);
            ballot.in_background(async move {
                let (node, asked) = (self.node, self.asked);
                let result = self.release_on(is_behind, result).await;
                casts.cast(node, result, asked.elapsed());
            });
        } else {
            let held = Held::after(ballot.operation, &result);
            let in_time = ballot.end_and_cast(self.node, held, result, took);
            self.has_ended = true;
            if !in_time && held != Held::No {
                // The release has not waited for it.
                let runtime = self.ballot.runtime.clone();
                runtime.spawn(self.release_again(held).in_current_span());
            }
        }
    }

    /// Asks and awaits the answer.
    pub(crate) async fn send(&self, operation: Operation) -> Result<Vote, BackendError> {
        let Ballot {
            redlock,
            resources,
            value,
            ..
        } = &*self.ballot;
        let backend = &redlock.0.nodes[self.node].backend;
        let sent = async {
            match operation {
                Operation::Acquire(ttl, None) => backend.acquire(resources, value, ttl).await,
                Operation::Acquire(ttl, Some(proposal)) => {
                    let asked = backend.acquire_fenced(resources, value, ttl, proposal);
                    asked.await
                }
                Operation::Extend(ttl) => backend.extend(resources, value, ttl).await,
                Operation::Release if self.ballot.undoes => backend.undo(resources, value).await,
                Operation::Release => backend.release(resources, value).await,
            }
        };
        let asked = Instant::now();
        let answer = caught(sent).await;
        let shared = &redlock.0;
        shared.answered(self.node, operation, &answer, asked.elapsed());
        answer
    }

    /// Asks, awaits the answer and casts it as a vote.
    pub(crate) async fn vote(self) -> Option<Refusal> {
        let ballot = Arc::clone(&self.ballot);
        let (node, asked) = (self.node, self.asked);
        let cast = |result| ballot.cast(node, result, asked.elapsed());
        if let Operation::Release = ballot.operation {
            cast(self.release().await);
            return None;
        }
        let result = self.send(ballot.operation).await;
        let mut refusal = None;
        if let (Operation::Extend(_), Ok(Vote::Refused)) = (ballot.operation, &result) {
            refusal = Some(Refusal(self));
        } else {
            self.end(Held::after(ballot.operation, &result));
        }
        cast(result);
        refusal
    }

    fn end(mut self, held: Held) {
        self.ballot.end(self.node, held);
        self.has_ended = true;
    }
}

impl Held {
    /// What the node carries after this answer to an acquire or an extension.
    fn after(operation: Operation, result: &Result<Vote, BackendError>) -> Self {
        match (operation, result) {
            (_, Ok(Vote::Granted)) => Self::Yes,
            (Operation::Acquire(..), Err(error)) if error.may_have_happened() => Self::Unknown,
            // An extension sets nothing.
            (_, Ok(Vote::Refused) | Err(_)) => Self::No,
        }
    }
}

impl Refusal {
    /// Leaves the node as it is.
    pub(crate) fn accept(self) {
        self.0.end(Held::No);
    }

    /// Sets the keys again, unless the lock has ended meanwhile or somebody else has them.
    pub(crate) async fn heal(self, valid_until: Instant) {
        let Self(ask) = self;
        let ballot = Arc::clone(&ask.ballot);
        if ballot.lock_ended.load(Ordering::Acquire) || Instant::now() >= valid_until {
            return ask.end(Held::No);
        }
        // For as long as the lock may be valid, which a shorter extension leaves as it was. Its token, if it
        // has one, has been counted.
        let answer = ask.send(Operation::Acquire(ballot.longest, None)).await;
        let node = Arc::clone(&ballot.redlock.0.nodes[ask.node].name);
        ask.end(match answer {
            Ok(Vote::Granted) => Held::Yes,
            Ok(Vote::Refused) => Held::No,
            Err(_) => Held::Unknown,
        });
        if let Ok(Vote::Granted) = answer {
            let resources = ballot.resources.clone();
            ballot.redlock.0.emit(Event::Healed { resources, node });
        }
    }
}
