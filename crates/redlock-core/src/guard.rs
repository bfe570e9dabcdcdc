//! The restart guard: who may have forgotten what it granted has no vote for a while.

use std::time::Duration;

use crate::{
    BackendError, BackendErrorKind, FORGETFUL, Instant,
    clock::after,
    validity::{drift, whole_millis},
};

/// How much faster our clock may run than the others', on which locks end.
const DRIFT_FACTOR: f64 = 0.01;

/// Keeps a server out of votes that has restarted or taken another's place, until every lock has ended that it
/// may have forgotten: the paper's delayed restart.
///
/// A driver that offers it has every new connection [examined](crate::redis::RedisBackend::examine) before it is
/// used, never lets a connection reconnect by itself, and reports what such a connection grants as an error
/// while it is on [`Probation`].
#[derive(Clone, Copy, Debug)]
pub struct RestartGuard {
    max_ttl: Duration,
    /// For how long a server may still be counted elsewhere that this one has replaced.
    lingering: Duration,
}

/// From when on what a server grants counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probation {
    over: Instant,
    /// For acquisitions with a fencing token.
    fenced_over: Instant,
}

impl RestartGuard {
    /// A guard for locks whose ttl is no longer than this, whoever takes them.
    #[must_use]
    pub const fn new(max_ttl: Duration) -> Self {
        Self {
            max_ttl,
            lingering: Duration::ZERO,
        }
    }

    /// For servers that take the place of others whose votes may be counted for so long afterwards.
    #[must_use]
    pub const fn lingering(mut self, time: Duration) -> Self {
        self.lingering = time;
        self
    }

    /// The longest ttl of a lock.
    #[must_use]
    pub const fn max_ttl(self) -> Duration {
        self.max_ttl
    }

    /// The probation of a server that was first seen so long ago.
    #[must_use]
    pub fn probation(self, age: Duration) -> Probation {
        let now = Instant::now();
        let over = |time: Duration| {
            let time = time.saturating_add(self.lingering);
            let time = time.saturating_add(drift(time, DRIFT_FACTOR));
            after(now, time.saturating_sub(age))
        };
        Probation {
            over: over(self.max_ttl),
            fenced_over: over(self.max_ttl.max(FORGETFUL)),
        }
    }
}

impl Probation {
    /// The longer one of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            over: self.over.max(other.over),
            fenced_over: self.fenced_over.max(other.fenced_over),
        }
    }

    /// Fails if a grant of what was `sent` then does not count: of an acquisition with or without a fencing
    /// token, or of an extension. What was granted early and answered late must not count either.
    ///
    /// # Errors
    ///
    /// Stands in for the grant, which has happened all the same.
    pub fn check(&self, fenced: bool, sent: Instant) -> Result<(), BackendError> {
        let over = if fenced { self.fenced_over } else { self.over };
        let left = over.saturating_duration_since(sent);
        if left.is_zero() {
            return Ok(());
        }
        let left = Duration::from_millis(whole_millis(left));
        let cause = format!("restarted or replaced, and without a vote for another {left:?}");
        Err(BackendError::new(BackendErrorKind::Server, cause))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const MAX_TTL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_server_counts_when_every_lock_has_ended_that_it_may_have_forgotten() {
        let guard = RestartGuard::new(MAX_TTL);
        let fresh = guard.probation(Duration::ZERO);
        let known = guard.probation(Duration::from_secs(4));
        assert!(known.check(false, Instant::now()).is_err());
        sleep(Duration::from_secs(7)).await;
        assert!(known.check(false, Instant::now()).is_ok());
        sleep(Duration::from_secs(3)).await;
        let error = fresh
            .check(false, Instant::now())
            .expect_err("clocks differ");
        assert!(error.may_have_happened());
        sleep(Duration::from_millis(103)).await;
        assert!(fresh.check(false, Instant::now()).is_ok());
        let just_before = Instant::now() - Duration::from_millis(2);
        assert!(
            fresh.check(false, just_before).is_err(),
            "whenever it is answered"
        );
        assert!(
            fresh
                .max(guard.probation(Duration::ZERO))
                .check(false, Instant::now())
                .is_err()
        );
        let known_for_long = guard.probation(Duration::from_secs(60));
        assert!(known_for_long.check(false, Instant::now()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn forgotten_fences_take_longer_than_forgotten_locks() {
        let probation = RestartGuard::new(MAX_TTL).probation(Duration::ZERO);
        sleep(2 * MAX_TTL).await;
        assert!(probation.check(false, Instant::now()).is_ok());
        assert!(probation.check(true, Instant::now()).is_err());
        sleep(FORGETFUL).await;
        assert!(probation.check(true, Instant::now()).is_ok());
        let longer = RestartGuard::new(2 * FORGETFUL).probation(Duration::ZERO);
        sleep(FORGETFUL).await;
        assert!(longer.check(true, Instant::now()).is_err());
    }
}
