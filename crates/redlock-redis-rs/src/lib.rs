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
//! Nothing is ever sent twice. A connection that is silent while answers are due, breaks, or leads to a server
//! that has become read-only is retired: the next operation dials anew. If an acquire got no answer, its
//! release is also written behind it, on its own connection, so that a `SET` that lands late leaves no
//! ghost lock. While a node is down its operations fail at once, and one task at a time dials, with
//! growing pauses.
//!
//! Where the server speaks RESP3 (Redis 6 or newer), a connection that it closes while idle is noticed at
//! once; otherwise the next operation notices it, and fails.

mod begun;
#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod doubt;
mod follow;
mod joined;
mod line;
mod node;
mod pipe;
#[cfg(feature = "deadpool")]
mod pool;
mod slot;
mod standalone;

pub use connection::{ConnectionClient, classify, has_code};
#[cfg(feature = "deadpool")]
pub use deadpool_redis;
pub use follow::{Follow, Retire, Server, Witness};
pub use node::{RedisNode, RedisNodeBuilder, moved_to};
pub use redis;
