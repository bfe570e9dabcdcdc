//! Requests that are refused before anything is sent.

use std::time::Duration;

use crate::validity::{self, MAX_TTL};

/// Why a request makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// No node was given.
    #[error("no nodes were given")]
    NoNodes,

    /// The same node was given twice, which would count its vote twice.
    #[error("the node {0} was given twice: its vote would count twice")]
    DuplicateNode(String),

    /// The drift factor is not in `[0, 1)`.
    #[error("the drift factor must be at least 0 and below 1, not {0}")]
    DriftFactor(f64),

    /// A timeout of zero.
    #[error("the {0} must be longer than zero")]
    ZeroTimeout(&'static str),

    /// No resource was named.
    #[error("no resource was named")]
    NoResources,

    /// A resource's name is empty.
    #[error("a resource's name is empty")]
    EmptyResource,

    /// A resource was named twice.
    #[error("the resource {0:?} was named twice")]
    DuplicateResource(String),

    /// The ttl does not exceed the drift allowance, so that no lock could ever be valid.
    #[error("the ttl {ttl:?} is too short: {drift:?} of it is the allowance for clock drift")]
    TtlTooShort {
        /// The ttl asked for.
        ttl: Duration,
        /// The drift allowance it does not exceed.
        drift: Duration,
    },

    /// The ttl is beyond what a node can count.
    #[error("the ttl {0:?} is too long: at most {MAX_TTL:?}")]
    TtlTooLong(Duration),

    /// The ttl is longer than a node's restart guard waits.
    #[error(
        "the ttl {ttl:?} is too long: the restart guard of the node {node} is for {max:?} at most"
    )]
    TtlBeyondGuard {
        /// The ttl asked for.
        ttl: Duration,
        /// The longest that the node's guard allows.
        max: Duration,
        /// The node's name.
        node: String,
    },

    /// Fencing tokens are asked for, and a node has none.
    #[error("the node {0} has no fencing tokens")]
    FencingUnsupported(String),

    /// Fencing tokens would be forgotten too soon, or for longer than a node can count.
    #[error(
        "fencing tokens can be remembered for one hour to {MAX_TTL:?}, or for ever, not for {0:?}"
    )]
    FenceLifetime(Duration),

    /// The lock value is empty or has characters other than visible ASCII.
    #[error("a lock value must be non-empty visible ASCII text")]
    Value,

    /// A node cannot lock these resources together.
    #[error("the node {node} cannot lock these resources: {reason}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// What its backend says.
        reason: String,
    },
}

/// Checks that a lock with this ttl can be valid at all.
pub(crate) fn check_ttl(ttl: Duration, drift_factor: f64) -> Result<(), InvalidRequest> {
    if ttl > MAX_TTL {
        Err(InvalidRequest::TtlTooLong(ttl))
    } else if ttl < Duration::from_millis(1) || validity::validity(ttl, drift_factor).is_zero() {
        let drift = validity::drift(ttl, drift_factor);
        Err(InvalidRequest::TtlTooShort { ttl, drift })
    } else {
        Ok(())
    }
}
