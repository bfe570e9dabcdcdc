//! Redlock nodes over the [`redis`] crate.
//!
//! [`RedisNode`] is a node wherever its server is found: at an address, over one multiplexed connection
//! that reconnects by itself ([`RedisNode::new`]), over a connection you already have
//! ([`RedisNode::from_connection`]), behind a [`deadpool_redis::Pool`] (`from_pool`, feature `deadpool`),
//! or as a Redis Cluster (`from_cluster`, feature `cluster`). Nodes of all kinds can be mixed.
//!
//! ```no_run
//! use std::time::Duration;
//! use redlock_core::Redlock;
//! use redlock_redis_rs::RedisNode;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"]
//!     .into_iter()
//!     .map(RedisNode::new)
//!     .collect::<Result<Vec<_>, _>>()?;
//! let redlock = Redlock::new(nodes)?;
//! let lock = redlock.acquire("orders:42", Duration::from_secs(10)).await?;
//! lock.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does for you
//!
//! Nothing is ever sent twice. A connection on which an operation got no answer (a timeout, a broken
//! pipe, a future dropped half-way), or on which the server said it is read-only, is retired: the next
//! operation dials anew. Until a retired connection has drained, releases are also written to it, behind
//! the `SET` that may still be on its way, so that no late `SET` leaves a ghost lock. While a node is down
//! its operations fail at once, and one task at a time dials, with growing pauses.

#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod node;
#[cfg(feature = "deadpool")]
mod pool;
mod retired;
mod slot;
mod standalone;

pub use connection::ConnectionClient;
#[cfg(feature = "deadpool")]
pub use deadpool_redis;
pub use node::{RedisNode, RedisNodeBuilder};
pub use redis;
