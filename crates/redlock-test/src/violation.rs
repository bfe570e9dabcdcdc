//! Two held the same at once.

use std::{collections::HashMap, fmt, time::Duration};

use redlock_core::Instant;

use crate::hold::{Hold, Line, Since};

/// Two holds of one resource at the same time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Violation {
    /// What both held.
    pub resource: String,
    /// The hold that was granted first.
    pub first: Hold,
    /// The hold that was granted while the first lasted.
    pub second: Hold,
    /// When the history starts from which the times are told.
    start: Instant,
    /// When it was found.
    now: Instant,
}

impl Violation {
    /// For how long both held it.
    #[must_use]
    pub fn overlap(&self) -> Duration {
        self.first.until().min(self.second.until()) - self.second.granted
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, now, .. } = *self;
        let line = |hold| Line { hold, start, now };
        write!(
            f,
            "two held {:?} at once, from {} for {:?}\n  {}\n  {}",
            self.resource,
            Since(start, self.second.granted),
            self.overlap(),
            line(&self.first),
            line(&self.second),
        )
    }
}

/// Every hold that began while another one of the same resource lasted, with that which lasts longest.
pub(crate) fn violations(holds: &[Hold], start: Instant) -> Vec<Violation> {
    let now = Instant::now();
    let mut holds: Vec<_> = holds
        .iter()
        .filter(|hold| hold.granted < hold.until())
        .collect();
    holds.sort_by_key(|hold| hold.granted);
    let mut found = Vec::new();
    // Of the holds of a resource so far, that which lasts longest: the others overlap nothing it does not.
    let mut longest: HashMap<&str, &Hold> = HashMap::new();
    for second in holds {
        for resource in second.resources.iter() {
            let first = longest.get(resource.as_str()).copied();
            if let Some(first) = first.filter(|first| second.granted < first.until()) {
                found.push(Violation {
                    resource: resource.clone(),
                    first: first.clone(),
                    second: second.clone(),
                    start,
                    now,
                });
            }
            if first.is_none_or(|first| first.until() < second.until()) {
                longest.insert(resource, second);
            }
        }
    }
    found
}
