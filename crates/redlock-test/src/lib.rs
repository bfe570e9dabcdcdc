//! For implementers of Redlock backends: nodes that misbehave on purpose, and real servers to test on.
//!
//! - [`Faulty`] wraps a backend and delays, loses, refuses or breaks its operations.
//! - [`server`] starts real servers on free loopback ports, to pause, kill and restart: single ones, clusters,
//!   and masters under Sentinel, of the system's `redis-server` and of other versions and kinds.
//! - [`proxy`] stands between a client and a server and stalls, cuts, or loses replies.
//!
//! Panics are how a fixture reports that it could not do what a test asked of it.

mod faulty;
pub mod proxy;
pub mod server;

pub use faulty::{Call, Fault, Faulty, Operation};
