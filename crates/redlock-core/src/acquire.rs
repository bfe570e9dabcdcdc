//! Taking a lock.

use std::{iter, time::Duration};

use tracing::Instrument;

use crate::{
    Error, IntoResources, InvalidRequest, Lock, LockValue, Proposal, Redlock, Resources,
    claim::Claim,
    clock::{Instant, after, sleep},
    fencing::PROPOSALS,
    invalid::check_ttl,
    quorum::Outcome,
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
    async fn repeat(
        &self,
        resources: &Resources,
        ttl: Duration,
        mut delays: impl Iterator<Item = Duration> + Send,
    ) -> (u32, Result<Lock, Error>) {
        let patience = self
            .0
            .settings
            .max_wait
            .map(|limit| after(Instant::now(), limit));
        let mut number = 0_u32;
        loop {
            number = number.saturating_add(1);
            let span = tracing::debug_span!(target: "redlock", "attempt", number);
            let outcome = self.attempt(resources, ttl).instrument(span).await;
            let Some(mut delay) = outcome.is_err().then(|| delays.next()).flatten() else {
                return (number, outcome);
            };
            if let Some(end) = patience {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return (number, outcome);
                }
                delay = delay.min(left);
            }
            sleep(delay).await;
        }
    }

    async fn attempt(&self, resources: &Resources, ttl: Duration) -> Result<Lock, Error> {
        let Some(proposer) = &self.0.proposer else {
            return self.try_once(resources, ttl, None).await;
        };
        let mut proposal = proposer.propose();
        for _ in 1..PROPOSALS {
            let outcome = self.try_once(resources, ttl, Some(proposal)).await;
            let votes = outcome.as_ref().err().and_then(Error::votes);
            match votes.and_then(|votes| proposer.propose_again(proposal, votes)) {
                Some(better) => proposal = better,
                None => return outcome,
            }
        }
        self.try_once(resources, ttl, Some(proposal)).await
    }

    async fn try_once(
        &self,
        resources: &Resources,
        ttl: Duration,
        proposal: Option<Proposal>,
    ) -> Result<Lock, Error> {
        let start = Instant::now();
        let claim = Claim::new(self, resources, LockValue::random(), false);
        let valid_until = claim.valid_until(start, ttl);
        let mut lock = Lock::new(claim, ttl, valid_until);
        // Past the ttl no vote is of use.
        let deadline = lock.vote_deadline(start).min(after(start, ttl));
        // Of an outage every node's part is wanted.
        let at_once = |outcome| outcome != Outcome::Unreachable;
        let mut round = lock.claim().ask(Operation::Acquire(ttl, proposal));
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
