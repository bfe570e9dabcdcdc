//! Who believed to hold which lock, and when: the evidence that no two ever did at once.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redlock_core::{Instant, IntoResources, Lock, LockValue};

use crate::{
    hold::{Ending, Hold, Line},
    violation::{Violation, violations},
};

/// Records who holds what and tells whether two ever held the same at once. Clones are the same history.
///
/// Every hold counts from when it is told to have been granted until it is told to have ended, or to its
/// own deadline if that comes first; two that only touch do not overlap. So tell that a lock was granted
/// when it has been, and that it was released *before* it is: in between it may be anybody's.
///
/// On a paused clock a hold during which the clock stands still takes no time, and overlaps nothing.
///
/// ```
/// use std::time::Duration;
/// use redlock_core::{MemoryBackend, Redlock};
/// use redlock_test::History;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let redlock = Redlock::new([MemoryBackend::new()])?;
/// let history = History::new();
/// let mut lock = redlock.acquire("orders:42", Duration::from_secs(10)).await?;
/// let held = history.locked("this test", &lock);
/// lock.extend(Duration::from_secs(20)).await?;
/// held.extended(lock.valid_until());
/// held.released();
/// lock.release().await?;
/// history.assert_mutual_exclusion();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct History {
    start: Instant,
    holds: Arc<Mutex<Vec<Hold>>>,
}

/// A hold that is being recorded. Dropped without a word, it counts up to its deadline.
#[derive(Debug)]
#[must_use = "tell how it ends, or it counts up to its deadline"]
pub struct Held {
    history: History,
    at: usize,
}

impl History {
    /// A history that starts now.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts at a moment")]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            holds: Arc::default(),
        }
    }

    /// From now on somebody holds this, until its own deadline at the latest.
    ///
    /// # Panics
    ///
    /// If these are no [resources](redlock_core::Resources).
    pub fn granted(
        &self,
        who: impl Into<String>,
        resources: impl IntoResources,
        value: &LockValue,
        valid_until: Instant,
    ) -> Held {
        let at = self.push(Hold {
            who: who.into(),
            resources: resources.into_resources().expect("names of resources"),
            value: value.clone(),
            granted: Instant::now(),
            valid_until,
            ending: Ending::Deadline,
        });
        let history = self.clone();
        Held { history, at }
    }

    /// From now on somebody holds this lock.
    pub fn locked(&self, who: impl Into<String>, lock: &Lock) -> Held {
        self.granted(who, lock.resources(), lock.value(), lock.valid_until())
    }

    /// Adds a hold that was recorded elsewhere, for example by another process on this machine: the one
    /// clock they share is the monotonic one.
    pub fn add(&self, hold: Hold) {
        self.push(hold);
    }

    /// Every hold, in the order of being told.
    #[must_use]
    pub fn holds(&self) -> Vec<Hold> {
        self.lock().clone()
    }

    /// Every hold that began while another one of the same resource lasted, in the order of beginning.
    ///
    /// Where it began during several, it is told once, with that which lasts longest. Two holds are two
    /// even if their value is the same: who hands a lock over tells that it was released.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        violations(&self.lock(), self.start)
    }

    /// Fails if two ever held the same resource at once.
    ///
    /// # Panics
    ///
    /// With the first time that they did: both holds, and for how long.
    #[track_caller]
    pub fn assert_mutual_exclusion(&self) {
        let violations = self.violations();
        if let Some(first) = violations.first() {
            panic!("{first}\n  violations in all: {}", violations.len());
        }
    }

    fn push(&self, hold: Hold) -> usize {
        let mut holds = self.lock();
        holds.push(hold);
        holds.len() - 1
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// It lasts until then; never shorter than before.
    pub fn extended(&self, valid_until: Instant) {
        self.change(|hold| hold.valid_until = hold.valid_until.max(valid_until));
    }

    /// Its holder is about to release it.
    pub fn released(self) {
        self.change(|hold| hold.ending = Ending::Released(Instant::now()));
    }

    /// Its holder has learned that it is lost.
    pub fn lost(self) {
        self.change(|hold| hold.ending = Ending::Lost(Instant::now()));
    }

    fn change(&self, change: impl FnOnce(&mut Hold)) {
        change(&mut self.history.lock()[self.at]);
    }
}

/// One line for each hold, in the order of being granted; times are told from the start.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, now) = (self.start, Instant::now());
        let mut holds = self.holds();
        holds.sort_by_key(|hold| hold.granted);
        for hold in &holds {
            writeln!(f, "{}", Line { hold, start, now })?;
        }
        Ok(())
    }
}
