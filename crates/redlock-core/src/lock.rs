//! A lock that is held.

use std::{fmt, time::Duration};

use crate::{
    Error, FencingToken, LockValue, Redlock, Resources, Votes,
    claim::Claim,
    clock::{Instant, after},
    round::Operation,
    telemetry::Event,
};

/// A lock on one resource or several, held until [`valid_until`](Self::valid_until) at the latest.
///
/// It is a lease: past its deadline it is lost for ever, whether or not anybody took it. Ask
/// [`check`](Self::check) right before what must not happen twice; a pause of the process after that
/// check is something no lease can prevent.
///
/// Dropping it releases it in the background, without waiting: on the present runtime or, outside of any,
/// on the one where it was acquired. Without a runtime that runs, the ttl frees it: before `main` returns,
/// [`release`](Self::release) it.
#[must_use = "a lock is released when it is dropped"]
pub struct Lock {
    claim: Claim,
    ttl: Duration,
    valid_until: Instant,
    pub(crate) votes: Votes,
    pub(crate) fencing_token: Option<FencingToken>,
    /// When it was granted; not while it is only an attempt.
    since: Option<Instant>,
    /// Whether dropping releases; not after a release or a hand-over.
    armed: bool,
    /// Whether its end has been told, or is not ours to tell.
    told: bool,
}

impl Lock {
    pub(crate) fn new(claim: Claim, ttl: Duration, valid_until: Instant) -> Self {
        Self {
            claim,
            ttl,
            valid_until,
            votes: Votes::none(),
            fencing_token: None,
            since: None,
            armed: true,
            told: false,
        }
    }

    /// What is locked.
    #[must_use]
    pub const fn resources(&self) -> &Resources {
        &self.claim.resources
    }

    /// The signature of this lock, to extend or release it elsewhere. Treat it as a secret.
    #[must_use]
    pub const fn value(&self) -> &LockValue {
        &self.claim.value
    }

    /// The number of this acquisition, greater than that of every lock of these resources before it; give it to
    /// what the lock protects, so that it can refuse who is late.
    ///
    /// `None` without [`RedlockBuilder::fencing`](crate::RedlockBuilder::fencing), and of a lock that was
    /// [adopted](Redlock::adopt): hand the token over together with the value.
    #[must_use]
    pub const fn fencing_token(&self) -> Option<FencingToken> {
        self.fencing_token
    }

    /// The deadline up to which the lock may be relied on, on this process's monotonic clock.
    #[must_use]
    pub const fn valid_until(&self) -> Instant {
        self.valid_until
    }

    /// How long the lock may still be relied on; zero once it is lost.
    #[must_use]
    pub fn validity(&self) -> Duration {
        self.valid_until.saturating_duration_since(Instant::now())
    }

    /// Whether the lock may be relied on now.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.valid_until
    }

    /// Fails unless the lock may be relied on now: for `lock.check()?` right before a side effect.
    ///
    /// Sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] past the deadline, with the votes of the last round.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_valid() {
            Ok(())
        } else {
            Err(Error::Lost(self.votes.clone()))
        }
    }

    /// What the nodes said when the lock was acquired or last extended.
    #[must_use]
    pub const fn votes(&self) -> &Votes {
        &self.votes
    }

    /// Gives the lock away: it is not released, and whoever has the value may
    /// [`adopt`](Redlock::adopt), [`extend`](Redlock::extend) or [`release`](Redlock::release) it.
    ///
    /// A node that was slow to grant may still do so: if the lock is released by its value before that, this
    /// node keeps it until its ttl ends.
    #[must_use = "without the value only the ttl frees the lock"]
    pub fn leak(mut self) -> LockValue {
        self.armed = false;
        self.told = true;
        self.claim.value.clone()
    }

    pub(crate) const fn redlock(&self) -> &Redlock {
        &self.claim.redlock
    }

    pub(crate) const fn claim(&mut self) -> &mut Claim {
        &mut self.claim
    }

    pub(crate) const fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(crate) fn vote_deadline(&self, asked: Instant) -> Instant {
        self.claim.vote_deadline(asked, self.ttl)
    }

    /// Until when it may be kept alive.
    pub(crate) fn hold_until(&self) -> Instant {
        let limit = self.redlock().0.settings.max_hold.unwrap_or(Duration::MAX);
        after(self.since.unwrap_or_else(Instant::now), limit)
    }

    /// It has just been granted.
    pub(crate) fn granted(&mut self, votes: Votes) {
        self.votes = votes;
        self.since = Some(Instant::now());
    }

    /// The lock lasts longer; never shorter than before.
    pub(crate) fn renew(&mut self, ttl: Duration, valid_until: Instant, votes: Votes) {
        self.ttl = ttl;
        self.valid_until = self.valid_until.max(valid_until);
        self.votes = votes;
        self.tell_renewed();
    }

    pub(crate) fn tell_renewed(&self) {
        self.emit(Event::Renewed {
            resources: self.resources().clone(),
            validity: self.validity(),
        });
    }

    /// The lock is gone, for ever.
    pub(crate) fn lose(&mut self, votes: Votes) -> Error {
        self.valid_until = self.valid_until.min(Instant::now());
        self.votes = votes.clone();
        self.claim.end();
        self.tell_lost();
        Error::Lost(votes)
    }

    pub(crate) fn tell_lost(&mut self) {
        if let Some(since) = self.since.filter(|_| !self.told) {
            self.told = true;
            self.emit(Event::Lost {
                resources: self.resources().clone(),
                held: since.elapsed(),
            });
        }
    }

    /// Tells how the lock ended that was given back with this much of its validity left.
    pub(crate) fn tell_released(&mut self, validity: Duration, confirmed: bool) {
        if validity.is_zero() {
            self.tell_lost();
        } else if let Some(since) = self.since.filter(|_| !self.told) {
            self.told = true;
            self.emit(Event::Released {
                resources: self.resources().clone(),
                held: since.elapsed(),
                validity,
                confirmed,
            });
        }
    }

    pub(crate) fn emit(&self, event: Event) {
        self.redlock().0.emit(event);
    }

    /// From now on dropping it does nothing.
    pub(crate) const fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.tell_released(self.validity(), false);
        if self.armed {
            // Dropping the round sends it on its way in the background.
            drop(self.claim.ask(Operation::Release));
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("resources", self.resources())
            .field("validity", &self.validity())
            .field("votes", &self.votes)
            .finish_non_exhaustive()
    }
}
