//! Keeping a lock for as long as the work takes.

use std::{fmt, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    Error, FencingToken, IntoResources, Lock, LockLost, LockValue, LostSignal, Redlock, Resources,
    UsingError, Votes,
    clock::{Instant, after, sleep_until},
    retry,
    signal::Deadline,
};

/// A lock that is extended in the background until it is released or dropped.
///
/// A task extends it after a third of its ttl, and again and again, with short pauses, while an extension
/// fails and validity is left. If that does not help, or the nodes say that it was taken, the
/// [`signal`](Self::signal) tells. What runs under the lock is never cut off by it.
///
/// Dropping it stops the extensions and releases in the background, as dropping a [`Lock`] does.
#[must_use = "a kept lock is released when it is dropped"]
pub struct KeptLock {
    resources: Resources,
    value: LockValue,
    signal: LostSignal,
    /// Dropping it stops the keeper.
    stop: oneshot::Sender<()>,
    task: JoinHandle<Lock>,
}

/// In this order: whoever listens is told before the nodes are.
struct Keeper {
    deadline: Deadline,
    lock: Lock,
}

impl Lock {
    /// Extends the lock in the background, each time by its present ttl, until the handle returned is
    /// released or dropped, or [`max_hold`](crate::RedlockBuilder::max_hold) is over.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn keep_alive(self) -> KeptLock {
        let hold_until = self.hold_until();
        let deadline = Deadline::new(self.valid_until().min(hold_until), self.fencing_token());
        let signal = deadline.signal();
        let (stop, stopped) = oneshot::channel();
        KeptLock {
            resources: self.resources().clone(),
            value: self.value().clone(),
            signal,
            stop,
            task: tokio::spawn(
                Keeper {
                    deadline,
                    lock: self,
                }
                .keep(hold_until, stopped),
            ),
        }
    }
}

impl Keeper {
    async fn keep(mut self, hold_until: Instant, mut stopped: oneshot::Receiver<()>) -> Lock {
        let ttl = self.lock.ttl();
        let validity = self.lock.claim().valid_for(ttl);
        let interval = retry::renewal(ttl, validity);
        // The first ttl began when the lock was asked for.
        let asked = self.lock.valid_until().checked_sub(validity);
        let asked = asked.map_or_else(Instant::now, |asked| asked.min(Instant::now()));
        let mut renew_at = after(asked, interval);
        while self.lock.is_valid() && self.lock.valid_until() < hold_until {
            tokio::select! {
                biased;
                _ = &mut stopped => return self.lock,
                () = sleep_until(renew_at.min(self.lock.valid_until())) => {}
            }
            let start = Instant::now();
            let extended = tokio::select! {
                biased;
                _ = &mut stopped => return self.lock,
                extended = self.lock.extend(ttl) => extended,
            };
            if extended.is_err() {
                renew_at = after(Instant::now(), retry::renewal_pause(ttl));
                continue;
            }
            renew_at = after(start, interval);
            let deadline = self.lock.valid_until().min(hold_until);
            if !self.deadline.set(deadline) {
                // It passed between the confirmation and now, and whoever looked has seen it pass.
                let votes = self.lock.votes().clone();
                self.lock.lose(votes);
            }
        }
        // Dropped in reverse: the deadline first, whatever happens.
        let Self { mut lock, deadline } = self;
        if lock.is_valid() {
            // Extended as far as it may be: the deadline itself tells.
            tokio::select! {
                biased;
                _ = &mut stopped => return lock,
                () = sleep_until(hold_until) => {}
            }
        }
        drop(deadline);
        lock.tell_lost();
        let _ = stopped.await;
        lock
    }
}

impl KeptLock {
    /// What is locked.
    #[must_use]
    pub const fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The signature of this lock; see [`Lock::value`].
    #[must_use]
    pub const fn value(&self) -> &LockValue {
        &self.value
    }

    /// The number of this acquisition; see [`Lock::fencing_token`].
    #[must_use]
    pub const fn fencing_token(&self) -> Option<FencingToken> {
        self.signal.fencing_token()
    }

    /// Tells when the lock is lost; any number of clones may be given away.
    #[must_use]
    pub fn signal(&self) -> LostSignal {
        self.signal.clone()
    }

    /// Whether the lock is lost. Sends nothing.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.signal.is_lost()
    }

    /// Fails if the lock is lost: for `kept.check()?` right before a side effect.
    ///
    /// # Errors
    ///
    /// [`LockLost`].
    pub fn check(&self) -> Result<(), LockLost> {
        self.signal.check()
    }

    /// How long the lock may be relied on without a further extension; zero once it is lost.
    #[must_use]
    pub fn validity(&self) -> Duration {
        self.signal.validity()
    }

    /// Stops the extensions, gives the lock back, and tells whether it was ours until now.
    ///
    /// # Errors
    ///
    /// As [`Lock::release`]; [`Error::Lost`] whenever the signal had fired before.
    ///
    /// # Cancel safety
    ///
    /// The release goes on in the background when the future is dropped.
    pub async fn release(self) -> Result<(), Error> {
        let in_time = !self.is_lost();
        drop(self.stop);
        match self.task.await {
            Ok(lock) => lock.give_back(in_time).await,
            // The keeper ended with its runtime or in a panic, which has told everybody.
            Err(_) => Err(Error::Lost(Votes::none())),
        }
    }
}

impl fmt::Debug for KeptLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptLock")
            .field("resources", &self.resources)
            .field("validity", &self.validity())
            .finish_non_exhaustive()
    }
}

impl Redlock {
    /// Runs a routine under a lock: acquires it, keeps it alive, runs, releases.
    ///
    /// The routine is given the signal that tells when the lock is lost; it is never cut off. To have a
    /// part of it cut off, wrap that in [`LostSignal::run_until_lost`].
    ///
    /// # Errors
    ///
    /// [`UsingError::NotAcquired`], without the routine having been called, as
    /// [`acquire`](Self::acquire); [`UsingError::Lost`], with what the routine returned, if the lock did
    /// not last until the routine had ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the routine and releases the lock in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock_core::{Error, MemoryBackend, Redlock};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Error> {
    /// # let redlock = Redlock::new([MemoryBackend::new()])?;
    /// let lines = redlock
    ///     .using("report", Duration::from_secs(10), async |signal| {
    ///         let mut lines = 0;
    ///         while lines < 100 && !signal.is_lost() {
    ///             lines += 1; // ... takes as long as it takes
    ///         }
    ///         lines
    ///     })
    ///     .await?;
    /// assert_eq!(lines, 100);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn using<T, Routine, Running>(
        &self,
        resources: impl IntoResources,
        ttl: Duration,
        routine: Routine,
    ) -> Result<T, UsingError<T>>
    where
        Routine: FnOnce(LostSignal) -> Running,
        Running: Future<Output = T>,
    {
        let kept = self.acquire(resources, ttl).await?.keep_alive();
        let outcome = routine(kept.signal()).await;
        match kept.release().await {
            // It lasted; what has not been confirmed is only that it is gone now.
            Ok(()) | Err(Error::NoQuorum(_)) => Ok(outcome),
            Err(error) => Err(UsingError::Lost { outcome, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::MemoryBackend;

    #[tokio::test(start_paused = true)]
    async fn a_keeper_that_dies_is_told_as_lost_before_the_nodes_are_free() {
        let node = MemoryBackend::new();
        let redlock = Redlock::new([node.clone()]).expect("one node");
        let lock = redlock
            .acquire("a", Duration::from_secs(10))
            .await
            .expect("free");
        let kept = lock.keep_alive();
        let signal = kept.signal();
        let watcher = tokio::spawn(async move {
            signal.lost().await;
            Instant::now()
        });
        sleep(Duration::from_secs(1)).await;
        assert!(!kept.is_lost());
        kept.task.abort();
        assert_eq!(
            watcher.await.expect("it ends"),
            Instant::now(),
            "at once, not at the deadline"
        );
        assert!(matches!(kept.release().await, Err(Error::Lost(_))));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(node.held(), 0);
    }
}
