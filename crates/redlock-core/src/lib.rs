//! The Redlock algorithm over N independent nodes, against an abstract [`LockBackend`].
//!
//! [`Redlock`] asks *may I hold these resources for this ttl?* of all its nodes at once; a
//! [`LockBackend`] carries the question to one node; [`redis::RedisBackend`] is the backend for
//! everything that speaks Redis and needs of a driver only to send two commands. Applications use the
//! facade `redlock-tokio` with a driver feature; drivers and backends of your own depend on this crate.
//!
//! ```
//! use std::time::Duration;
//! use redlock_core::{MemoryBackend, Redlock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redlock = Redlock::new((0..5).map(|_| MemoryBackend::new()))?;
//! let mut lock = redlock.acquire("orders:42", Duration::from_secs(10)).await?;
//! // ... work, and before what must not happen twice:
//! lock.check()?;
//! lock.extend(Duration::from_secs(10)).await?;
//! lock.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything runs on a tokio runtime with time enabled, and follows tokio's clock.

mod acquire;
mod ask;
mod backend;
mod ballot;
mod builder;
mod capabilities;
mod caught;
mod chain;
mod claim;
mod clock;
mod error;
mod extend;
mod fencing;
mod guard;
mod hash_slot;
mod holder;
mod inspect;
mod invalid;
mod keep;
mod lock;
mod memory;
mod queue;
pub mod quorum;
mod raw_value;
pub mod redis;
mod redlock;
mod release;
mod reply;
mod resources;
pub mod retry;
mod round;
mod shortcut;
mod signal;
pub mod telemetry;
pub mod validity;
mod value;
mod verdict;
mod wait;

pub use backend::{BackendError, BackendErrorKind, LockBackend, Vote};
pub use builder::RedlockBuilder;
pub use clock::Instant;
pub use error::{Error, NodeVote, UsingError, Votes};
pub use fencing::{CLOCK_TOLERANCE, FORGETFUL, Fencing, FencingToken, NextToken, Proposal};
pub use guard::{Probation, RestartGuard};
pub use holder::Holder;
pub use inspect::{Inspection, NodeInspection};
pub use invalid::InvalidRequest;
pub use keep::KeptLock;
pub use lock::Lock;
pub use memory::MemoryBackend;
pub use raw_value::RawValue;
pub use redlock::Redlock;
pub use reply::Reply;
pub use resources::{IntoResources, Resources};
pub use signal::{LockLost, LostSignal};
pub use value::LockValue;
pub use verdict::Verdict;
pub use wait::{Place, TURN, Wake};
