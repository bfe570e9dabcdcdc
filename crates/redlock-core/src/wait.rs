//! Waiting for a lock that another holds: what a node is asked, what it says, and who tries first.

use std::{collections::HashMap, time::Duration};

use crate::{Instant, Resources, clock::after};

/// For how long a turn is kept for whom it was given to, unless somebody else asks the node without waiting.
pub const TURN: Duration = Duration::from_millis(100);

/// Where to stand in the line of those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Behind all others.
    Last,
    /// In front of them: a turn was given to us, and nothing came of it.
    First,
}

/// Why waiting has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// It is our turn: a release has told us alone.
    Turn,
    /// The resources are free, or may be; others may have been told as well.
    Free,
}

/// The resources for which others wait, to whom a release of ours has given the turn.
#[derive(Debug, Default)]
pub(crate) struct Awaited(HashMap<Resources, Instant>);

impl Awaited {
    /// At how many resources those are thrown away whose turn is over.
    const MANY: usize = 256;

    pub(crate) fn note(&mut self, resources: &Resources, now: Instant) {
        if self.0.len() >= Self::MANY {
            self.0.retain(|_, until| now < *until);
        }
        self.0.insert(resources.clone(), after(now, TURN));
    }

    pub(crate) fn contains(&mut self, resources: &Resources, now: Instant) -> bool {
        let Some(until) = self.0.get(resources) else {
            return false;
        };
        let given = now < *until;
        if !given {
            self.0.remove(resources);
        }
        given
    }
}
