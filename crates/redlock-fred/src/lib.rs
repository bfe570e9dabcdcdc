//! Redlock nodes over the [`fred`] crate.
//!
//! [`FredNode`] is a node wherever its server is found: at an address ([`FredNode::new`]), or where a client
//! ([`FredNode::from_client`]) or a pool ([`FredNode::from_pool`]) that you already have leads to. Each of
//! them may lead to a single server, a Redis Cluster, or the master that sentinels name. A node always has a
//! connection of its own, one to each master of a cluster: fred can mistake the answers of a connection upon
//! `ASK`, and then a vote would not be what the server said.
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
//! Nothing is ever sent twice. While there is no connection, operations fail at once. A command that could
//! not be written within the response timeout is never written. A connection that is silent while answers are
//! due, or leads to a server that has become read-only, is replaced, with growing pauses up to half a second
//! while connections are of no use. If an acquire got no answer, its release is repeated for a minute, with
//! growing pauses, so that a `SET` that lands late over a connection that is gone leaves no lock for long that
//! nobody holds.
//!
//! # Limits
//!
//! - fred decodes nested replies by recursion without a limit: a server that answers with some hundred to some
//!   thousand nested arrays, a few kilobytes, overflows the stack, which ends the process. Over an unencrypted
//!   connection anybody on the way can. Use it with servers and networks that you trust; `redlock-redis-rs` treats
//!   such an answer as an error.
//! - A command that was written cannot be called back. Between a late `SET` and the next repeated release,
//!   up to 5 s, its resources are taken on that node. Of the acquires in doubt at one time, 1000 per node
//!   are cleaned up so; the ttl ends the others, and what lands more than 60 s late or after the node was
//!   dropped.
//! - fred does not follow a redirection of a command that may be sent only once: after a slot of a cluster
//!   has moved, one operation fails and the next one goes to the right member. A lock that is answered
//!   `ASK`, as its slot is being migrated, can be neither taken nor released until that is done.
//! - fred connects to all masters of a cluster or to none: one that hangs, or is down, costs the whole
//!   cluster's vote until it is back or a replica has taken its place.
//! - With sentinels (`redis-sentinel://`), fred asks the first that answers for the master when it connects,
//!   and never otherwise. It follows the crash of a master as soon as the sentinels do. After a planned
//!   failover it keeps to the old master for as long as that accepts writes, some 10 s, during which others
//!   can lock the same on the new one; `redlock-sentinel` asks all of them and follows at once. Set
//!   `min-replicas-to-write 1` on the servers, upon whose refusal this driver asks again. A sentinel that
//!   accepts connections and hangs costs the node's vote; use `redlock-sentinel`.

mod doubt;
mod ear;
mod finish;
mod line;
mod link;
mod node;
mod sender;
mod together;

pub use fred;
pub use node::{FredNode, FredNodeBuilder};
