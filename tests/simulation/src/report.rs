//! What came of one history.

use crate::shares::{Shares, Tally};

/// What came of one history.
///
/// | | |
/// |---|---|
/// | I1 | two validity intervals of one resource never overlap |
/// | I2 | at every event a quorum of nodes is the holder's until past its deadline |
/// | I3 | once lost is for ever lost; an extension rests on a quorum of nodes that extended |
/// | I4 | no fencing token is given twice, and who was granted before another one asked has the smaller one |
/// | I5 | a register that looks at tokens loses no increment that it accepted, however late it comes |
/// | I6 | what was given up is gone from the nodes when messages have had the time |
/// | I7 | every operation ends within its rounds; when all is well, everybody gets the lock |
#[derive(Debug)]
pub struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) tally: Tally,
    /// Nodes forgot and voted all the same.
    pub(crate) is_unsafe: bool,
    pub(crate) history: String,
}

impl Report {
    /// What must not have happened.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        if self.is_unsafe {
            &[]
        } else {
            &self.violations
        }
    }

    /// What must not have happened either, but is expected: nodes forgot what they had granted, and no guard
    /// kept them from voting.
    #[must_use]
    pub fn expected(&self) -> &[String] {
        if self.is_unsafe {
            &self.violations
        } else {
            &[]
        }
    }

    /// Whether nodes forgot what they had granted, and no guard kept them from voting.
    #[must_use]
    pub const fn is_unsafe(&self) -> bool {
        self.is_unsafe
    }

    /// What happened, if it was told.
    #[must_use]
    pub fn history(&self) -> &str {
        &self.history
    }

    /// Counts what this history was worth.
    pub fn count(&self, shares: &mut Shares) {
        shares.count(&self.tally);
    }
}
