//! An exhaustive check of the protocol: every order of events in small configurations.
//!
//! Each model is one file to be read from top to bottom: what there is, what can happen, what must never be.
//! - `lock.rs`: exclusion, with extensions and restarts of nodes.
//! - `fence.rs`: fencing tokens rise, though fences expire and get lost.
//! - `guard.rs`: how a client recognises that a node forgot what it granted.
//!
//! Each can be given a flaw, one known to have broken a lock; then the explorer must find a counterexample, or it
//! would prove nothing by finding none. The [`catalogue`] lists what is explored.

pub mod catalogue;
mod explore;
mod fence;
mod guard;
mod lock;

pub use explore::{Counterexample, Report};
