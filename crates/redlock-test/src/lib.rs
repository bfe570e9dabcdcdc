//! For implementers of Redlock backends: the contract as tests, nodes that misbehave on purpose, real servers
//! to test on, and the evidence that no two held a lock at once.
//!
//! - [`conformance!`] makes a test of every clause of the contract, for a backend of yours.
//! - [`Faulty`] wraps a backend and delays, loses, repeats, reorders, refuses or breaks its operations.
//! - [`Skewed`] wraps a backend and has the node's clock run at another rate.
//! - [`History`] records who held what, and tells whether two ever held the same at once.
//! - [`server`] starts real servers on free loopback ports, to pause, kill and restart: single ones, clusters,
//!   and masters under Sentinel, of the system's `redis-server` and of other versions and kinds.
//! - [`proxy`] stands between a client and a server and stalls, cuts, loses replies, or takes its time.
//! - [`hostile`] is a server that answers what a test wants, well formed or not.
//!
//! Panics are how a fixture reports that it could not do what a test asked of it.

pub mod conformance;
mod faulty;
mod history;
mod hold;
pub mod hostile;
pub mod proxy;
pub mod server;
mod skew;
mod violation;

pub use faulty::{Call, Fault, Faulty, Operation};
pub use history::{Held, History};
pub use hold::{Ending, Hold};
pub use skew::Skewed;
pub use violation::Violation;
