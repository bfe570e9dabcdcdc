//! What the examples share.

pub mod fenced;
pub mod sqlite;
