//! Redlock nodes over the [`fred`] crate.
//!
//! [`FredNode`] is a node wherever its server is found: at an address ([`FredNode::new`]), or behind a
//! client ([`FredNode::from_client`]) or a pool ([`FredNode::from_pool`]) that you already have. Each of
//! them may lead to a single server, a Redis Cluster, or the master that sentinels name.
//!
//! ```no_run
//! use std::time::Duration;
//! use redlock_core::Redlock;
//! use redlock_fred::FredNode;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"]
//!     .into_iter()
//!     .map(FredNode::new)
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
//! Nothing is ever sent twice, whatever `max_command_attempts` of your client is. While a client is not
//! connected, operations fail at once. A command that could not be written within the response timeout is
//! never written. A connection that is silent while answers are due, or leads to a server that has become
//! read-only, is replaced. All that concerns one lock goes over one client of a pool, in order. If an
//! acquire got no answer, its release is repeated for a minute, with growing pauses, so that a `SET` that
//! lands late over a connection that is gone leaves no lock for long that nobody holds.
//!
//! # Limits
//!
//! - A command that was written cannot be called back. Between a late `SET` and the next repeated release,
//!   up to 5 s, its resources are taken on that node. Of the acquires in doubt at one time, 1000 per node
//!   are cleaned up so; the ttl ends the others.
//! - fred does not follow a redirection of a command that may be sent only once: after a slot of a cluster
//!   has moved, one operation fails and the next one goes to the right member.
//! - fred connects to all masters of a cluster or to none: one that hangs, or is down, costs the whole
//!   cluster's vote until it is back or a replica has taken its place.
//! - With sentinels (`redis-sentinel://`), fred asks the first that answers for the master when it connects,
//!   and never otherwise. It follows the crash of a master as soon as the sentinels do. After a planned
//!   failover it keeps to the old master for as long as that accepts writes, some 10 s, during which others
//!   can lock the same on the new one; `redlock-sentinel` asks all of them and follows at once. Set
//!   `min-replicas-to-write 1` on the servers, upon whose refusal this driver asks again.
//! - A client of yours whose connection takes no more bytes hears of no order to replace it: its operations
//!   fail until the system gives the connection up.

mod doubt;
mod finish;
mod line;
mod link;
mod node;
mod sender;

pub use fred;
pub use node::{FredNode, FredNodeBuilder};
