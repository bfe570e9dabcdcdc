//! What one holder believed: that it held a lock, from when until when.

use std::fmt;

use redlock_core::{Instant, LockValue, Resources};

/// Somebody's belief to hold a lock: from [`granted`](Self::granted) up to, not including,
/// [`until`](Self::until).
#[derive(Clone, Debug)]
pub struct Hold {
    /// The holder, for people.
    pub who: String,
    /// What was held.
    pub resources: Resources,
    /// With which value.
    pub value: LockValue,
    /// From when on.
    pub granted: Instant,
    /// The holder's own deadline.
    pub valid_until: Instant,
    /// What it said when it gave up.
    pub ending: Ending,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its holder released it then.
    Released(Instant),
    /// Its holder learned then that it was lost.
    Lost(Instant),
    /// Its holder said nothing: it counts up to its deadline.
    Deadline,
}

impl Hold {
    /// When the holder gave up, or its deadline if that came first.
    #[must_use]
    pub fn until(&self) -> Instant {
        match self.ending {
            Ending::Released(at) | Ending::Lost(at) => at.min(self.valid_until),
            Ending::Deadline => self.valid_until,
        }
    }

    fn why(&self, now: Instant) -> &'static str {
        match self.ending {
            Ending::Released(at) if at <= self.valid_until => "released",
            Ending::Lost(at) if at <= self.valid_until => "lost",
            Ending::Deadline if now < self.valid_until => "still held",
            _ => "its deadline",
        }
    }
}

/// An instant by its distance from another.
pub(crate) struct Since(pub(crate) Instant, pub(crate) Instant);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(start, at) = *self;
        match at.checked_duration_since(start) {
            Some(after) => write!(f, "+{after:?}"),
            None => write!(f, "-{:?}", start - at),
        }
    }
}

/// One line about a hold, as it stands now.
pub(crate) struct Line<'a> {
    pub(crate) hold: &'a Hold,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hold, start, now } = *self;
        write!(
            f,
            "{}: {:?} with {:?} from {} until {} ({})",
            hold.who,
            hold.resources,
            hold.value,
            Since(start, hold.granted),
            Since(start, hold.until()),
            hold.why(now),
        )
    }
}
