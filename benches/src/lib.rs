//! What the benches measure, and how: every contender takes its turn in every round of one run, so that whatever
//! else the machine does strikes all of them alike, and ratios are taken within a round.

pub mod contend;
pub mod contender;
pub mod cpu;
pub mod fault;
pub mod instructions;
pub mod kept;
pub mod plot;
pub mod report;
pub mod rounds;
pub mod servers;
pub mod stats;
