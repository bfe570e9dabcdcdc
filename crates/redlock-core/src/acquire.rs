//! Taking a lock.

use std::{iter, sync::LazyLock, time::Duration};

use tracing::Instrument;

use crate::{
    Error, IntoResources, InvalidRequest, Lock, LockValue, Proposal, Redlock, Resources, Vote,
    Votes, Wake,
    claim::{Claim, Whom},
    clock::{Instant, after, sleep_until},
    fencing::PROPOSALS,
    invalid::check_ttl,
    queue::{Waiter, ranking},
    quorum::{Outcome, Tally},
    retry::{self, Retry},
    round::Operation,
    telemetry::Event,
};

impl Redlock {
    /// Takes the lock of one resource or several, all or none, for `ttl`, trying again as the settings say.
    ///
    /// Every attempt has a fresh value and the whole `ttl`, and cleans up after itself when it fails.
    /// Without retries left the last attempt's error is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] (somebody holds it), [`Error::NoQuorum`] (an outage), [`Error::Late`] (the
    /// nodes were too slow for this `ttl`), or [`Error::Invalid`], before anything is sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases, in the background, whatever it has or may have taken.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock_core::{Error, MemoryBackend, Redlock};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Error> {
    /// # let redlock = Redlock::new([MemoryBackend::new()])?;
    /// let ttl = Duration::from_secs(10);
    /// let lock = redlock.acquire(["account:1", "account:2"], ttl).await?;
    /// assert!(matches!(redlock.acquire("account:2", ttl).await, Err(Error::Locked(_))));
    /// lock.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "acquireLock")]
    pub async fn acquire(
        &self,
        resources: impl IntoResources,
        ttl: Duration,
    ) -> Result<Lock, Error> {
        let settings = &self.0.settings;
        let jitter = settings.retry_jitter.unwrap_or(settings.retry_delay / 2);
        let delay = || retry::jittered(settings.retry_delay, jitter, rand::random());
        let delays = iter::repeat_with(delay).take(settings.retry_count as usize);
        self.attempts(resources.into_resources()?, ttl, delays)
            .await
    }

    /// Makes one attempt and never waits for a holder.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    #[doc(alias = "tryAcquire")]
    pub async fn try_acquire(
        &self,
        resources: impl IntoResources,
        ttl: Duration,
    ) -> Result<Lock, Error> {
        self.attempts(resources.into_resources()?, ttl, iter::empty())
            .await
    }

    /// As [`acquire`](Self::acquire), with delays of your own between the attempts: an iterator of
    /// delays, or a function from the failed attempt's number to the next delay; see [`Retry`].
    ///
    /// An iterator without end retries without end, also during an outage, unless
    /// [`max_wait`](crate::RedlockBuilder::max_wait) is set.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    #[doc(alias = "acquireLockWithCustomRetry")]
    pub async fn acquire_with_retry<Kind>(
        &self,
        resources: impl IntoResources,
        ttl: Duration,
        retry: impl Retry<Kind>,
    ) -> Result<Lock, Error> {
        let delays = retry.delays(self.0.settings.retry_count);
        self.attempts(resources.into_resources()?, ttl, delays)
            .await
    }

    async fn attempts(
        &self,
        resources: Resources,
        ttl: Duration,
        delays: impl Iterator<Item = Duration> + Send,
    ) -> Result<Lock, Error> {
        self.check(&resources, ttl)?;
        let span = tracing::debug_span!(target: "redlock", "acquire", %resources);
        let started = Instant::now();
        let (attempts, outcome) = self.repeat(&resources, ttl, delays).instrument(span).await;
        let waited = started.elapsed();
        self.0.emit(match &outcome {
            Ok(lock) => Event::Acquired {
                resources,
                attempts,
                waited,
                validity: lock.validity(),
            },
            Err(error) => Event::NotAcquired {
                resources,
                attempts,
                waited,
                error: error.clone(),
            },
        });
        outcome
    }

    /// Attempts until one succeeds or the delays or the patience end; how many it took.
    ///
    /// Between two attempts, more are made whenever a node says that there is reason to.
    async fn repeat(
        &self,
        resources: &Resources,
        ttl: Duration,
        mut delays: impl Iterator<Item = Duration> + Send,
    ) -> (u32, Result<Lock, Error>) {
        let settings = &self.0.settings;
        let patience = settings.max_wait.map(|limit| after(Instant::now(), limit));
        let mut waiter = Waiter::new(self, resources);
        let mut attempts = Attempts {
            redlock: self,
            resources,
            ttl,
            number: 0,
        };
        let mut last = Last::None;
        if !waiter.is_behind_others() {
            last = attempts.make(Whom::All).await;
            waiter.learn(last.votes(), false);
        }
        loop {
            let now = Instant::now();
            let left = patience.map(|end| end.saturating_duration_since(now));
            let delay = match last {
                Last::Granted(lock) => return (attempts.number, Ok(lock)),
                _ if left.is_some_and(|left| left.is_zero()) => None,
                _ => delays.next(),
            };
            let Some(delay) = delay else {
                // What all nodes say is wanted in the end.
                if !matches!(last, Last::Failed(_)) {
                    last = attempts.make(Whom::All).await;
                }
                return (attempts.number, last.into_result());
            };
            let end = after(now, left.map_or(delay, |left| delay.min(left)));
            waiter.begin();
            last = attempts.until(end, &mut waiter, last).await;
        }
    }

    async fn attempt(
        &self,
        resources: &Resources,
        ttl: Duration,
        whom: Whom,
    ) -> Result<Lock, Error> {
        let Some(proposer) = &self.0.proposer else {
            return self.try_once(resources, ttl, None, whom).await;
        };
        let mut proposal = proposer.propose();
        for _ in 1..PROPOSALS {
            let outcome = self.try_once(resources, ttl, Some(proposal), whom).await;
            let votes = outcome.as_ref().err().and_then(Error::votes);
            match votes.and_then(|votes| proposer.propose_again(proposal, votes)) {
                Some(better) => proposal = better,
                None => return outcome,
            }
        }
        self.try_once(resources, ttl, Some(proposal), whom).await
    }

    async fn try_once(
        &self,
        resources: &Resources,
        ttl: Duration,
        proposal: Option<Proposal>,
        whom: Whom,
    ) -> Result<Lock, Error> {
        let start = Instant::now();
        let claim = Claim::new(self, resources, LockValue::random(), false);
        let valid_until = claim.valid_until(start, ttl);
        let mut lock = Lock::new(claim, ttl, valid_until);
        // Past the ttl no vote is of use.
        let deadline = lock.vote_deadline(start).min(after(start, ttl));
        let operation = Operation::Acquire(ttl, proposal);
        let soon = Claim::soon(start, deadline);
        let mut round = lock.claim().ask_some(operation, whom);
        if let Whom::First(node) = whom {
            if let Some(Ok(Vote::Refused)) = round.answer(node, soon).await {
                // Nobody else was asked.
                lock.disarm();
                return Err(Error::Locked(round.into_votes()));
            }
            round.ask_others(node);
        }
        // Who has to wait does so at the first of the nodes that answers, as all others do: in two lines they would be
        // told at once, and their votes split.
        let first = LazyLock::new(|| ranking(self, resources)[0]);
        let heard = |tally: &Tally, votes: &Votes| match tally.outcome() {
            None => false,
            Some(Outcome::Granted) => true,
            Some(_) => votes.answer(*first).is_some(),
        };
        round.collect(soon, false, heard).await;
        // Of an outage every node's part is wanted.
        let at_once = |outcome| outcome != Outcome::Unreachable;
        let (outcome, votes) = round.decide(deadline, at_once).await;
        // What has not been answered goes on in the background.
        drop(round);
        if outcome == Outcome::Granted && lock.is_valid() {
            lock.granted(votes);
            lock.fencing_token = proposal.map(|proposal| proposal.token());
            return Ok(lock);
        }
        lock.abandon(&votes).await;
        Err(match outcome {
            Outcome::Granted => Error::Late(votes),
            // Without the refusals the nodes that failed would not have mattered.
            Outcome::Refused | Outcome::Mixed => Error::Locked(votes),
            Outcome::Unreachable => Error::NoQuorum(votes),
        })
    }

    /// Refuses what makes no sense before anything is sent.
    pub(crate) fn check(&self, resources: &Resources, ttl: Duration) -> Result<(), InvalidRequest> {
        self.check_ttl(ttl)?;
        self.check_resources(resources)
    }

    pub(crate) fn check_ttl(&self, ttl: Duration) -> Result<(), InvalidRequest> {
        check_ttl(ttl, self.0.settings.drift_factor)?;
        self.0.nodes.iter().try_for_each(|node| {
            let max = node.backend.max_ttl().filter(|max| *max < ttl);
            max.map_or(Ok(()), |max| {
                let node = node.name.to_string();
                Err(InvalidRequest::TtlBeyondGuard { ttl, max, node })
            })
        })
    }

    pub(crate) fn check_resources(&self, resources: &Resources) -> Result<(), InvalidRequest> {
        self.0.nodes.iter().try_for_each(|node| {
            node.backend
                .check(resources)
                .map_err(|reason| InvalidRequest::Unsupported {
                    node: node.name.to_string(),
                    reason,
                })
        })
    }
}

/// The attempts of one acquisition.
struct Attempts<'a> {
    redlock: &'a Redlock,
    resources: &'a Resources,
    ttl: Duration,
    /// How many there were.
    number: u32,
}

/// What came of the last attempt.
enum Last {
    /// There was none yet.
    None,
    Granted(Lock),
    Failed(Error),
    /// The node refused that was asked first.
    Refused(Error),
}

impl Last {
    fn into_result(self) -> Result<Lock, Error> {
        match self {
            Self::Granted(lock) => Ok(lock),
            Self::Failed(error) | Self::Refused(error) => Err(error),
            Self::None => unreachable!("an attempt was made"),
        }
    }

    fn votes(&self) -> Option<&Votes> {
        match self {
            Self::Failed(error) | Self::Refused(error) => error.votes(),
            Self::None | Self::Granted(_) => None,
        }
    }

    const fn is_locked(&self) -> bool {
        matches!(
            self,
            Self::None | Self::Failed(Error::Locked(_)) | Self::Refused(_)
        )
    }
}

impl Attempts<'_> {
    async fn make(&mut self, whom: Whom) -> Last {
        self.number = self.number.saturating_add(1);
        let span = tracing::debug_span!(target: "redlock", "attempt", number = self.number);
        let attempt = self.redlock.attempt(self.resources, self.ttl, whom);
        match attempt.instrument(span).await {
            Ok(lock) => Last::Granted(lock),
            Err(error) => match (whom, error.votes()) {
                (Whom::First(_), Some(votes)) if votes.pending().count() + 1 == votes.nodes() => {
                    Last::Refused(error)
                }
                _ => Last::Failed(error),
            },
        }
    }

    /// Waits until then, and makes an attempt; earlier, when there is reason to.
    async fn until(&mut self, end: Instant, waiter: &mut Waiter<'_>, mut last: Last) -> Last {
        while last.is_locked() {
            let Some(wake) = waiter.wake(end).await else {
                if waiter.polls() {
                    last = self.make(waiter.whom(Wake::Free)).await;
                    waiter.learn(last.votes(), false);
                }
                return last;
            };
            let node = waiter.node();
            last = self.make(waiter.whom(wake)).await;
            if let Last::Granted(lock) = &mut last {
                lock.claim().waited_at = node;
            }
            waiter.learn(last.votes(), true);
        }
        if let Last::Granted(_) = last {
            return last;
        }
        // Others may be luckier meanwhile.
        waiter.step_back();
        sleep_until(end).await;
        self.make(Whom::All).await
    }
}
