//! Keeping a lock for longer, and taking over somebody else's.

use std::time::Duration;

use tracing::Instrument;

use crate::{
    Error, IntoResources, Lock, LockValue, Redlock, claim::Claim, clock::Instant, quorum::Outcome,
    round::Operation, telemetry::Event,
};

impl Lock {
    /// Restarts the ttl: from now on the lock lasts for `ttl`, less the drift allowance, but never
    /// shorter than before.
    ///
    /// It needs a quorum of all nodes that still carry the value, confirmed before the present
    /// deadline. A failed extension releases nothing. After one that succeeded, nodes that did not carry
    /// the value (they restarted, or the acquisition missed them) are given it again in the background;
    /// that never counts as a vote.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`]: the deadline has passed, or so many nodes do not carry the value any more that
    /// there is no quorum; the lock can never become valid again. [`Error::NoQuorum`]: unknown; the
    /// lock is still valid until its old deadline, and extending may be tried again.
    /// [`Error::Invalid`]: nothing was sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the old deadline in force; the nodes may keep the keys for longer.
    #[doc(alias = "renewLock")]
    pub async fn extend(&mut self, ttl: Duration) -> Result<(), Error> {
        self.redlock().check_ttl(ttl)?;
        let resources = self.resources();
        let span = tracing::debug_span!(target: "redlock", "extend", %resources);
        self.extension(ttl).instrument(span).await
    }

    async fn extension(&mut self, ttl: Duration) -> Result<(), Error> {
        if let Err(lost) = self.check() {
            self.tell_lost();
            return Err(lost);
        }
        let start = Instant::now();
        let valid_until = self.claim().valid_until(start, ttl);
        let deadline = self
            .claim()
            .vote_deadline(start, ttl)
            .min(self.valid_until());
        let mut round = self.claim().ask(Operation::Extend(ttl));
        let (outcome, votes) = round.decide(deadline, |_| true).await;
        if !self.is_valid() {
            return Err(self.lose(votes));
        }
        match outcome {
            Outcome::Granted => {
                self.renew(ttl, valid_until, votes);
                round.heal(self.valid_until());
                Ok(())
            }
            Outcome::Refused => Err(self.lose(votes)),
            Outcome::Unreachable | Outcome::Mixed => {
                self.votes = votes.clone();
                let error = Error::NoQuorum(votes);
                self.emit(Event::RenewalFailed {
                    resources: self.resources().clone(),
                    validity: self.validity(),
                    error: error.clone(),
                });
                Err(error)
            }
        }
    }
}

impl Redlock {
    /// Takes over a lock whose value was [leaked](Lock::leak), here or in another process: extends it and
    /// holds it from then on.
    ///
    /// Call it before the deadline that the leaking side knew; only that guarantees that nobody held
    /// the lock in between.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`]: so many nodes do not carry the value that there is no quorum.
    /// [`Error::NoQuorum`]: unknown. [`Error::Late`]: extended, but no validity is left.
    /// [`Error::Invalid`]: nothing was sent. None of them releases anything.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the lock extended and never releases it.
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
    /// let value = redlock.acquire("report", ttl).await?.leak();
    /// let text = value.as_str(); // goes to another process, which knows the resource
    /// let lock = redlock.adopt("report", text.parse()?, ttl).await?;
    /// # lock.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn adopt(
        &self,
        resources: impl IntoResources,
        value: LockValue,
        ttl: Duration,
    ) -> Result<Lock, Error> {
        let resources = resources.into_resources()?;
        self.check(&resources, ttl)?;
        let start = Instant::now();
        let mut claim = Claim::new(self, &resources, value, true);
        let valid_until = claim.valid_until(start, ttl);
        let deadline = claim.vote_deadline(start, ttl);
        let (outcome, votes) = claim
            .ask(Operation::Extend(ttl))
            .decide(deadline, |_| true)
            .await;
        match outcome {
            Outcome::Granted if Instant::now() < valid_until => {
                let mut lock = Lock::new(claim, ttl, valid_until);
                lock.granted(votes);
                lock.tell_renewed();
                Ok(lock)
            }
            Outcome::Granted => Err(Error::Late(votes)),
            Outcome::Refused => Err(Error::Lost(votes)),
            Outcome::Unreachable | Outcome::Mixed => Err(Error::NoQuorum(votes)),
        }
    }

    /// Extends a lock by its value and gives its new deadline; it stays nobody's handle.
    ///
    /// # Errors
    ///
    /// As [`adopt`](Self::adopt).
    ///
    /// # Cancel safety
    ///
    /// As [`adopt`](Self::adopt).
    #[doc(alias = "renewLock")]
    pub async fn extend(
        &self,
        resources: impl IntoResources,
        value: LockValue,
        ttl: Duration,
    ) -> Result<Instant, Error> {
        let lock = self.adopt(resources, value, ttl).await?;
        let valid_until = lock.valid_until();
        let _ = lock.leak();
        Ok(valid_until)
    }
}
