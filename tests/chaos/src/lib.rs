//! Clients in processes of their own contend for locks on five real servers that crash, hang and lose what they were
//! told; did two ever hold the same lock, and did a fencing token ever fall?
//!
//! A [phase](Phase) is one such run. What a client says, and how to write one in whatever language, is told by
//! [`protocol`].

pub mod client;
mod clock;
mod crowd;
mod faults;
mod fleet;
mod log;
mod order;
mod outcome;
mod phase;
pub mod plan;
pub mod protocol;
mod record;

pub use clock::Clock;
pub use outcome::{Outcome, table};
pub use phase::{Phase, Settings};
