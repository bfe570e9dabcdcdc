//! What the examples share.

pub mod sqlite;
