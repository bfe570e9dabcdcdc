//! How to use locks well, in six chapters.
//!
//! 1. [Choosing a ttl](choosing_a_ttl)
//! 2. [Keeping a lock alive](keeping_alive)
//! 3. [What to do on loss](on_loss)
//! 4. [What each failure does](failures)
//! 5. [Waiting for a lock](waiting)
//! 6. [What is guaranteed](guarantees)

#[doc = include_str!("guide/choosing_a_ttl.md")]
pub mod choosing_a_ttl {}

#[doc = include_str!("guide/keeping_alive.md")]
pub mod keeping_alive {}

#[doc = include_str!("guide/on_loss.md")]
pub mod on_loss {}

#[doc = include_str!("guide/failures.md")]
pub mod failures {}

#[doc = include_str!("guide/waiting.md")]
pub mod waiting {}

#[doc = include_str!("guide/guarantees.md")]
pub mod guarantees {}
