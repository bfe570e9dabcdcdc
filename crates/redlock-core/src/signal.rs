//! Knowing when a lock is lost.

use std::{fmt, future::Future, pin::pin, time::Duration};

use tokio::sync::watch;

use crate::{
    FencingToken,
    clock::{Instant, sleep_until},
    telemetry,
};

/// Tells the holder of a kept lock that it is lost.
///
/// It compares the lock's deadline with this process's monotonic clock, so that it fires at the deadline
/// whatever becomes of the extensions, of the task that makes them, and of the nodes. Once lost is for
/// ever lost. Cheap to clone. When the lock is released it fires at once: nothing protects who still
/// listens then.
#[derive(Clone)]
pub struct LostSignal {
    deadline: watch::Receiver<Instant>,
    fencing_token: Option<FencingToken>,
}

/// The side that moves the deadline.
pub(crate) struct Deadline {
    sender: watch::Sender<Instant>,
    fencing_token: Option<FencingToken>,
}

/// The lock is lost: somebody else may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock is lost")]
pub struct LockLost;

impl Deadline {
    pub(crate) fn new(valid_until: Instant, fencing_token: Option<FencingToken>) -> Self {
        telemetry::kept(1.0);
        Self {
            sender: watch::Sender::new(valid_until),
            fencing_token,
        }
    }

    pub(crate) fn signal(&self) -> LostSignal {
        LostSignal {
            deadline: self.sender.subscribe(),
            fencing_token: self.fencing_token,
        }
    }

    /// Moves the deadline, unless it has passed: judged under the same lock under which it is read, so
    /// that nobody who has seen it pass sees it come back.
    pub(crate) fn set(&self, valid_until: Instant) -> bool {
        self.sender.send_if_modified(|deadline| {
            let alive = Instant::now() < *deadline;
            if alive {
                *deadline = valid_until;
            }
            alive
        })
    }
}

/// Whoever gives up the deadline gives up the lock: also a keeper that panics is never a silent one.
impl Drop for Deadline {
    fn drop(&mut self) {
        let now = Instant::now();
        self.sender
            .send_modify(|deadline| *deadline = now.min(*deadline));
        telemetry::kept(-1.0);
    }
}

impl LostSignal {
    /// Whether the lock is lost. Sends nothing.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let deadline = self.deadline.borrow();
        Instant::now() >= *deadline
    }

    /// Fails if the lock is lost: for `signal.check()?` right before a side effect.
    ///
    /// # Errors
    ///
    /// [`LockLost`].
    pub fn check(&self) -> Result<(), LockLost> {
        if self.is_lost() {
            Err(LockLost)
        } else {
            Ok(())
        }
    }

    /// How long the lock may be relied on without a further extension; zero once it is lost.
    #[must_use]
    pub fn validity(&self) -> Duration {
        self.deadline
            .borrow()
            .saturating_duration_since(Instant::now())
    }

    /// The number of the acquisition that this is about; see [`Lock::fencing_token`](crate::Lock::fencing_token).
    #[must_use]
    pub const fn fencing_token(&self) -> Option<FencingToken> {
        self.fencing_token
    }

    /// Waits until the lock is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn lost(&self) {
        let mut deadlines = self.deadline.clone();
        loop {
            let deadline = *deadlines.borrow_and_update();
            if Instant::now() >= deadline {
                return;
            }
            tokio::select! {
                biased;
                () = sleep_until(deadline) => {}
                Ok(()) = deadlines.changed() => {}
            }
        }
    }

    /// Runs the future until it ends, or drops it when the lock is lost.
    ///
    /// # Errors
    ///
    /// [`LockLost`] if the lock was lost first.
    ///
    /// # Cancel safety
    ///
    /// As that of the future.
    pub async fn run_until_lost<F: Future>(&self, future: F) -> Result<F::Output, LockLost> {
        let mut future = pin!(future);
        tokio::select! {
            biased;
            () = self.lost() => Err(LockLost),
            output = &mut future => Ok(output),
        }
    }

    /// A token that is cancelled when the lock is lost, for code that knows `tokio_util`'s.
    ///
    /// A task watches the lock until it is lost or the token is cancelled.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg(feature = "tokio-util")]
    #[must_use]
    pub fn cancellation_token(&self) -> tokio_util::sync::CancellationToken {
        let token = tokio_util::sync::CancellationToken::new();
        let (signal, cancelled) = (self.clone(), token.clone());
        // Also when the task ends with its runtime.
        let guard = token.clone().drop_guard();
        tokio::spawn(async move {
            let _guard = guard;
            let _ = cancelled.run_until_cancelled(signal.lost()).await;
        });
        token
    }
}

impl fmt::Debug for LostSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LostSignal")
            .field("validity", &self.validity())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_fires_at_the_deadline_by_itself_whatever_the_keeper_does() {
        let deadline = Deadline::new(Instant::now() + SECOND, None);
        let signal = deadline.signal();
        let start = Instant::now();
        signal.lost().await;
        assert_eq!(start.elapsed(), SECOND);
        assert!(signal.is_lost());
        drop(deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_passed_never_comes_back() {
        let deadline = Deadline::new(Instant::now() + SECOND, None);
        let signal = deadline.signal();
        assert!(deadline.set(Instant::now() + 2 * SECOND));
        sleep_until(Instant::now() + SECOND).await;
        assert!(!signal.is_lost(), "it was moved in time");
        sleep_until(Instant::now() + SECOND).await;
        assert!(!deadline.set(Instant::now() + SECOND), "too late");
        assert!(signal.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_follows_a_deadline_that_is_moved() {
        let deadline = Deadline::new(Instant::now() + SECOND, None);
        let signal = deadline.signal();
        let start = Instant::now();
        let waiting = tokio::spawn(async move {
            signal.lost().await;
            start.elapsed()
        });
        sleep_until(start + SECOND / 2).await;
        assert!(deadline.set(start + 3 * SECOND));
        assert_eq!(waiting.await.expect("it ends"), 3 * SECOND);
    }
}
