//! Giving a lock back, and undoing an attempt that failed.

use std::time::Duration;

use tracing::Instrument;

use crate::{
    BackendError, Error, IntoResources, Lock, LockValue, Redlock, Vote, Votes,
    ask::Ask,
    chain::Held,
    claim::{Claim, UNKNOWN_TTL},
    clock::{Instant, after, sleep, timeout_at},
    quorum::Outcome,
    retry::backoff,
    round::Operation,
};

/// The first and the longest pause before a node is asked once more to release what it may hold.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

impl Lock {
    /// Gives the lock back and tells whether it was ours until now.
    ///
    /// One round, however it ends; a node that gives no answer is asked again in the background.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`]: it had expired or been taken; what was left of it is released all the same.
    /// [`Error::NoQuorum`]: unknown, too few nodes answered; the ttl frees what they hold.
    ///
    /// # Cancel safety
    ///
    /// The release goes on in the background when the future is dropped.
    #[doc(alias = "releaseLock")]
    pub async fn release(self) -> Result<(), Error> {
        let in_time = self.is_valid();
        self.give_back(in_time).await
    }

    /// Releases the lock, which was still ours when that was asked for, or not.
    pub(crate) async fn give_back(mut self, in_time: bool) -> Result<(), Error> {
        let resources = self.resources();
        let span = tracing::debug_span!(target: "redlock", "release", %resources);
        let ttl = self.ttl();
        let validity = if in_time {
            self.validity()
        } else {
            Duration::ZERO
        };
        // From the first poll on the round itself sees to the release; dropping only tells.
        self.disarm();
        let outcome = match release(self.claim(), ttl).instrument(span).await {
            Ok(votes) | Err(Error::NoQuorum(votes)) if !in_time => Err(Error::Lost(votes)),
            other => other,
        };
        self.redlock().0.queues.released(self.resources());
        match &outcome {
            Err(Error::Lost(_)) => self.tell_lost(),
            _ => self.tell_released(validity, outcome.is_ok()),
        }
        outcome.map(drop)
    }

    /// Undoes an attempt that failed, on all nodes.
    ///
    /// Waits, for a vote's time at most, only for those nodes that answered the attempt: the others
    /// follow in the background.
    pub(crate) async fn abandon(mut self, asked: &Votes) {
        let deadline = self.vote_deadline(Instant::now());
        self.claim().undoes = true;
        let mut round = self.claim().ask(Operation::Release);
        self.disarm();
        let awaited = |node: usize| matches!(asked.answer(node), Some(Ok(_)));
        let undone = |votes: &Votes| !votes.pending().any(awaited);
        round
            .collect(deadline, true, |_, votes| undone(votes))
            .await;
    }
}

impl Redlock {
    /// Releases a lock by its value, for example one that another process [leaked](Lock::leak).
    ///
    /// # Errors
    ///
    /// As [`Lock::release`], and [`Error::Invalid`] for names that make no sense.
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::release`].
    #[doc(alias = "releaseLock")]
    pub async fn release(
        &self,
        resources: impl IntoResources,
        value: LockValue,
    ) -> Result<(), Error> {
        let resources = resources.into_resources()?;
        self.check_resources(&resources)?;
        let mut claim = Claim::new(self, &resources, value, true);
        release(&mut claim, UNKNOWN_TTL).await.map(drop)
    }
}

/// One round. It also waits for what is said by the node at which we have waited, unless that takes long: whether others
/// do, so that we do not try before them when we come back at once.
async fn release(claim: &mut Claim, ttl: Duration) -> Result<Votes, Error> {
    let start = Instant::now();
    let deadline = claim.vote_deadline(start, ttl);
    let mut round = claim.ask(Operation::Release);
    if let Some(node) = claim.waited_at {
        round.answer(node, Claim::soon(start, deadline)).await;
    }
    let (outcome, votes) = round.decide(deadline, |_| true).await;
    match outcome {
        Outcome::Granted => Ok(votes),
        Outcome::Refused => Err(Error::Lost(votes)),
        Outcome::Unreachable | Outcome::Mixed => Err(Error::NoQuorum(votes)),
    }
}

impl Ask {
    /// Releases one node: at once, and again behind what was still under way, so that nothing which lands
    /// late stays. Goes on in the background until that is certain.
    pub(crate) async fn release(self) -> Result<Vote, BackendError> {
        let is_behind = self.ballot.chain.held(self.node).is_none();
        let first = self.release_once().await;
        self.release_on(is_behind, first).await
    }

    /// What is left to do after the first answer, which came while what it follows was under way or not.
    pub(crate) async fn release_on(
        self,
        is_behind: bool,
        first: Result<Vote, BackendError>,
    ) -> Result<Vote, BackendError> {
        if is_behind && let Ok(Vote::Granted) = first {
            // All of it was there and is gone. If that was the acquire, it cannot land again; a healing
            // or an acquire that was healed meanwhile can.
            if !self.ballot.chain.is_acquire_only() {
                let runtime = self.ballot.runtime.clone();
                runtime.spawn(self.release_behind().in_current_span());
            }
            return first;
        }
        let held = self.ballot.chain.ended(self.node).await;
        let result = if is_behind {
            self.release_once().await
        } else {
            first
        };
        if !is_certain(held, &result) {
            let runtime = self.ballot.runtime.clone();
            runtime.spawn(self.release_again(held).in_current_span());
        }
        result
    }

    /// Whether nothing is left to do after the first answer.
    pub(crate) fn is_released(&self, is_behind: bool, first: &Result<Vote, BackendError>) -> bool {
        let chain = &self.ballot.chain;
        match chain.held(self.node) {
            Some(held) if !is_behind => is_certain(held, first),
            _ => matches!(first, Ok(Vote::Granted)) && chain.is_acquire_only(),
        }
    }

    async fn release_behind(self) {
        let held = self.ballot.chain.ended(self.node).await;
        if !is_certain(held, &self.release_once().await) {
            self.release_again(held).await;
        }
    }

    /// One release, for which half of the clean-up's time is enough.
    async fn release_once(&self) -> Result<Vote, BackendError> {
        let deadline = after(Instant::now(), self.ballot.cleanup / 2);
        timeout_at(deadline, self.send(Operation::Release))
            .await
            .unwrap_or_else(|_| Err(BackendError::timeout()))
    }

    pub(crate) async fn release_again(self, held: Held) {
        let deadline = after(Instant::now(), self.ballot.cleanup);
        let repeated = async {
            for pause in backoff(PAUSES.0, PAUSES.1) {
                sleep(pause).await;
                if is_certain(held, &self.release_once().await) {
                    break;
                }
            }
        };
        let _ = timeout_at(deadline, repeated).await;
    }
}

/// Whether the node holds nothing of ours after this answer to a release, nor ever will.
const fn is_certain(held: Held, answer: &Result<Vote, BackendError>) -> bool {
    match (held, answer) {
        (Held::No, _) | (_, Ok(Vote::Granted)) | (Held::Yes, Ok(Vote::Refused)) => true,
        // What has not arrived yet cannot be released yet.
        (Held::Unknown, Ok(Vote::Refused)) | (Held::Yes | Held::Unknown, Err(_)) => false,
    }
}
