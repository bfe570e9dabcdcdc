//! Distributed locks with Redlock over N independent Redis nodes.
//!
//! [`Redlock`] takes, extends and releases locks; a driver, chosen by a feature, reaches the nodes:
//!
//! | feature | adds |
//! |---|---|
//! | `redis-rs` | `RedisNode`, on the `redis` crate |
//! | `deadpool` | `RedisNode::from_pool`, on `deadpool-redis` |
//! | `cluster` | `RedisNode::from_cluster`, a Redis Cluster as one node |
//! | `sentinel` | `SentinelNode`, a master behind Redis Sentinel as one node |
//! | `fred` | `FredNode`, on the `fred` crate |
//! | `tls-rustls` | `rediss://` for the drivers that are on, over rustls |
//! | `tls-native-tls` | `rediss://` for the drivers that are on, over the system's TLS library |
//! | `metrics` | [metrics](telemetry#metrics) through the `metrics` facade |
//! | `tokio-util` | `LostSignal::cancellation_token` |
//!
//! No driver is on by default, and no feature changes what exists without it. [`MemoryBackend`] needs
//! none. The [`guide`] tells how to choose a ttl, how to keep a lock for long work, and what each kind of failure
//! does to a lock.
//!
//! ```
//! use std::time::Duration;
//! use redlock::{MemoryBackend, Redlock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redlock = Redlock::new((0..5).map(|_| MemoryBackend::new()))?;
//! let lock = redlock.acquire("orders:42", Duration::from_secs(10)).await?;
//! lock.release().await?;
//! # Ok(())
//! # }
//! ```

pub mod guide;

pub use redlock_core::*;
#[cfg(feature = "fred")]
pub use redlock_fred::{self as fred, FredNode, FredNodeBuilder};
#[cfg(feature = "redis-rs")]
pub use redlock_redis_rs::{self as redis_rs, RedisNode, RedisNodeBuilder};
#[cfg(feature = "sentinel")]
pub use redlock_sentinel::{self as sentinel, SentinelNode, SentinelNodeBuilder};
