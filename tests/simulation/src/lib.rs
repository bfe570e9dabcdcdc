//! The real core on simulated nodes, network and clocks.
//!
//! A seed stands for one history: some nodes whose clocks run at rates of their own, a network that loses,
//! repeats, delays and reorders, nodes that crash with and without their memory, and clients that compete
//! for locks, stand still, drop futures, hand locks over and die. Everything runs on one thread and on
//! tokio's paused clock, so that the same seed gives the same history, to the letter.
//!
//! After every event the invariants are checked: see the [`Report`].

mod client;
mod history;
mod hold;
mod ledger;
mod link;
mod network;
mod node;
mod plan;
mod register;
mod report;
mod rng;
mod run;
mod shares;
mod stall;
mod world;

pub use report::Report;
pub use run::{simulate, tell};
pub use shares::Shares;
