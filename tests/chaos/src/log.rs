//! What was done to servers and clients, and when.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redlock::Instant;

/// The faults in the order of happening. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    start: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    /// Only what begins something counts as a fault of this kind.
    kind: Option<&'static str>,
    what: String,
}

impl Log {
    pub(crate) fn new() -> Self {
        let start = Instant::now();
        Self {
            start,
            entries: Arc::default(),
        }
    }

    /// A fault of this kind happens now.
    pub(crate) fn fault(&self, kind: &'static str, whom: &str) {
        let what = format!("{kind}: {whom}");
        self.push(Some(kind), what);
    }

    /// Something follows from a fault.
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.push(None, what.into());
    }

    /// How many faults there were of each kind.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for kind in self.lock().iter().filter_map(|entry| entry.kind) {
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }

    /// What happened within so much time of that instant, a line each.
    #[must_use]
    pub fn around(&self, at: Instant, time: Duration) -> String {
        let mut lines = String::new();
        for entry in self.lock().iter() {
            if entry.at.max(at) - entry.at.min(at) <= time {
                let _ = writeln!(lines, "  +{:?} {}", entry.at - self.start, entry.what);
            }
        }
        lines
    }

    fn push(&self, kind: Option<&'static str>, what: String) {
        let at = Instant::now();
        self.lock().push(Entry { at, kind, what });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
