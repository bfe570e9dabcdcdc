//! Redlock nodes that are masters behind Redis Sentinel.
//!
//! A group of a master, its replicas and their sentinels is **one node**, one vote among several: it
//! replicates asynchronously, so that a failover can forget a lock that was granted. [`SentinelNode`] asks
//! for the vote of whoever is the master now.
//!
//! ```no_run
//! use redlock_core::Redlock;
//! use redlock_sentinel::SentinelNode;
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
//! let locks = SentinelNode::new(sentinels, "locks")?;
//!
//! // Separate credentials and TLS, and votes that count only when a replica has them, too.
//! let orders = SentinelNode::builder()
//!     .server("rediss://app:secret@master/0")
//!     .acknowledged_by(1, std::time::Duration::from_millis(50))
//!     .open(sentinels.map(|url| url.replace("redis://", "redis://:watch@")), "orders")?;
//! # let more = [locks, orders];
//! # let redlock = Redlock::new(more)?;
//! # Ok(())
//! # }
//! ```
//!
//! # How the master is found
//!
//! All sentinels are asked at once, and a majority of those configured has to answer: **list all of
//! them**, each once, and none behind a load balancer. The address is that of `SENTINEL
//! GET-MASTER-ADDR-BY-NAME` at the highest `config-epoch`. An epoch lower than one seen before is not
//! believed, as a sentinel that was cut off would bring back a master that has been replaced, unless a majority
//! names it and nobody has named the higher one for 15 s: then that failover was never completed. Then
//! the server itself has to say, by `ROLE`, that it is a master.
//!
//! Every sentinel is listened to as long as the connection lives. When one of them knows a newer epoch, or
//! a majority another master, or less than a majority has answered for 3 s, the connection is given up,
//! and no answer counts that is on its way over it. The error replies `READONLY`, `NOREPLICAS`, `MASTERDOWN` and
//! `LOADING` have the master looked for again, in the background; so does a connection that is silent or
//! breaks.
//!
//! # What it has to be allowed
//!
//! On the sentinels: `+sentinel|get-master-addr-by-name +sentinel|master +subscribe` and the channels
//! `&+switch-master &+promoted-slave`. Without the subscription, which is logged, a failover is noticed up
//! to a second later. On the servers, beside what every node needs: `+role`, and with
//! [`acknowledged_by`](SentinelNodeBuilder::acknowledged_by) also `+wait`, and `+set` for the key
//! `redlock:acknowledged` behind the key prefix.
//!
//! # What remains
//!
//! During a planned failover the old master goes on to accept writes for about ten seconds after another
//! has been announced, and one that was paused does when it comes back. This node does not ask it any
//! more, but clients that follow the group in other ways may: let all of them use this crate, or set
//! `min-replicas-to-write 1` on the servers, which then refuse writes once they are cut off from their
//! replicas.
//!
//! Who is cut off from the sentinels together with the old master trusts it for 3 s more. That is safe as
//! long as `down-after-milliseconds` is longer.
//!
//! What was granted just before a failover may be missing on the new master.
//! [`acknowledged_by`](SentinelNodeBuilder::acknowledged_by) makes that rarer, not impossible.

mod acknowledged;
mod belief;
mod group;
mod watch;

use std::{collections::HashSet, fmt, time::Duration};

use redis::{ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError};
use redlock_core::forward_backend;
use redlock_redis_rs::{RedisNode, RedisNodeBuilder};

use crate::{
    acknowledged::Replicas,
    group::{Group, address_of},
};

/// The master of a group that sentinels watch, as one node. Cheap to clone; clones are the same node.
///
/// See the [crate's documentation](crate).
#[derive(Clone)]
pub struct SentinelNode(RedisNode);

/// Settings of a [`SentinelNode`].
#[derive(Clone, Default)]
#[must_use]
pub struct SentinelNodeBuilder {
    settings: Option<RedisNodeBuilder>,
    sentinel_settings: Option<RedisNodeBuilder>,
    server: Option<Result<ConnectionInfo, RedisError>>,
    replicas: Option<Replicas>,
}

impl SentinelNode {
    /// The master of this name, found through these sentinels, such as `redis://host:26379`. List all of
    /// them.
    ///
    /// Nothing is sent, and nothing need be up.
    ///
    /// # Errors
    ///
    /// When there is no URL, or one makes no sense, or asks for TLS and no TLS feature is enabled.
    pub fn new<U: IntoConnectionInfo>(
        sentinels: impl IntoIterator<Item = U>,
        master: impl Into<String>,
    ) -> Result<Self, RedisError> {
        Self::builder().open(sentinels, master)
    }

    /// A node with settings of your own.
    pub fn builder() -> SentinelNodeBuilder {
        SentinelNodeBuilder::default()
    }
}

impl SentinelNodeBuilder {
    /// Key prefix, timeouts, name, and certificates for the master. The connect timeout includes finding it.
    pub fn settings(mut self, settings: RedisNodeBuilder) -> Self {
        self.settings = Some(settings);
        self
    }

    /// How the master is spoken to: user, password, database, and TLS of this URL, such as
    /// `rediss://user:password@master/0`. Its host and port are not used. Default: plain, without a
    /// password.
    ///
    /// A URL that makes no sense is an error of [`open`](Self::open).
    pub fn server(mut self, url: impl IntoConnectionInfo) -> Self {
        self.server = Some(url.into_connection_info());
        self
    }

    /// The certificates for sentinels at `rediss://`. Default: those of the [settings](Self::settings).
    #[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
    pub fn sentinel_tls_certificates(mut self, certificates: redis::TlsCertificates) -> Self {
        self.sentinel_settings = Some(RedisNode::builder().tls_certificates(certificates));
        self
    }

    /// Counts a vote only when so many replicas have acknowledged it within this time; otherwise the vote is
    /// an error, and an acquire is released. Default: no replica is asked.
    ///
    /// It costs a round trip to the master and to the replicas more, by `WAIT` on a connection of its own, on
    /// which the key `redlock:acknowledged`, behind the key prefix, is written. The time has to be shorter than
    /// half the node timeout of the `Redlock`, as a vote may have to wait for those before it. A failover
    /// loses what was acknowledged less often, but still does when it promotes a replica that had not.
    pub const fn acknowledged_by(mut self, replicas: usize, within: Duration) -> Self {
        self.replicas = Some(Replicas {
            count: replicas,
            within,
        });
        self
    }

    /// The node; see [`SentinelNode::new`].
    ///
    /// # Errors
    ///
    /// As [`SentinelNode::new`].
    pub fn open<U: IntoConnectionInfo>(
        self,
        sentinels: impl IntoIterator<Item = U>,
        master: impl Into<String>,
    ) -> Result<SentinelNode, RedisError> {
        let settings = self.settings.unwrap_or(RedisNode::builder());
        let sentinel_settings = self.sentinel_settings.as_ref().unwrap_or(&settings);
        let server = self
            .server
            .unwrap_or_else(|| "redis://master".into_connection_info())?;
        settings.client(server.clone())?;
        let sentinels = sentinels
            .into_iter()
            .map(|url| sentinel_settings.client(url))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses: HashSet<_> = sentinels.iter().map(address_of).collect();
        if addresses.len() != sentinels.len() || sentinels.is_empty() {
            let cause = "no sentinels are given, or one of them twice";
            return Err((ErrorKind::InvalidClientConfig, cause).into());
        }
        let group = Group::new(master.into(), sentinels, server, self.replicas);
        Ok(SentinelNode(settings.follow(group)))
    }
}

forward_backend!([] SentinelNode, |node| node.0);

impl fmt::Debug for SentinelNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SentinelNode").field(&self.0).finish()
    }
}

impl fmt::Debug for SentinelNodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelNodeBuilder")
            .field("settings", &self.settings)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}
