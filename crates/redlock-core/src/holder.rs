//! Who holds a resource.

use std::{fmt, time::Duration};

use crate::RawValue;

/// Who holds a resource, and for how long still.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// What the resource carries.
    pub value: RawValue,
    /// How long it carries it still, by the node's own clock, if nobody releases or extends it. `None`
    /// if it never ends by itself, as a key without an expiry, which no Redlock sets.
    pub remaining: Option<Duration>,
}

impl Holder {
    /// A holder with this value, for so long still; for ever if that is `None`.
    pub fn new(value: impl Into<RawValue>, remaining: impl Into<Option<Duration>>) -> Self {
        Self {
            value: value.into(),
            remaining: remaining.into(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, remaining } = self;
        match remaining {
            Some(remaining) => write!(f, "held by {value} for another {remaining:.1?}"),
            None => write!(f, "held by {value} without end"),
        }
    }
}
