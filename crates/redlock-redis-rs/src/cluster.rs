//! A Redis Cluster as one node.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use redis::{
    ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
};
use redlock_core::{BackendError, Resources, redis::same_slot};

use crate::{
    RedisNode, RedisNodeBuilder,
    connection::classify,
    line::Line,
    node::{Source, address_of},
    slot::{Dial, Dialled, Slot},
};

impl RedisNode {
    /// A Redis Cluster, found through some of its members, as one node of the Redlock.
    ///
    /// A cluster replicates asynchronously: a failover inside it can forget a lock, so that it is one
    /// vote among several, not a quorum of its own. Several resources must share a hash slot, by a
    /// `{tag}` in their names; otherwise the call fails before anything is sent. While a slot migrates, its
    /// resources cannot be locked. Nothing is sent now, and the cluster need not be up.
    ///
    /// # Errors
    ///
    /// When there is no URL, or one makes no sense, or they differ in their credentials, or with a restart guard.
    pub fn from_cluster<U: IntoConnectionInfo>(
        urls: impl IntoIterator<Item = U>,
    ) -> Result<Self, RedisError> {
        Self::builder().cluster(urls)
    }
}

impl RedisNodeBuilder {
    /// The cluster that these are members of; see [`RedisNode::from_cluster`].
    ///
    /// # Errors
    ///
    /// As [`RedisNode::from_cluster`].
    pub fn cluster<U: IntoConnectionInfo>(
        self,
        urls: impl IntoIterator<Item = U>,
    ) -> Result<RedisNode, RedisError> {
        let members = urls
            .into_iter()
            .map(IntoConnectionInfo::into_connection_info)
            .collect::<Result<Vec<ConnectionInfo>, _>>()?;
        if self.protocol.guard.is_some() {
            return Err((
                ErrorKind::InvalidClientConfig,
                "a restart guard cannot tell which member of a cluster gave a vote",
            )
                .into());
        }
        for member in &members {
            self.tls.open(member.clone())?;
            if member.redis_settings().db() != 0 {
                return Err((
                    ErrorKind::InvalidClientConfig,
                    "a cluster has no databases to choose from",
                )
                    .into());
            }
        }
        // However its members are listed, it is the same node.
        let first = members.iter().map(address_of).min();
        let name = first.map(|member| format!("cluster {member}"));
        // Retries would send an acquire again whose outcome is unknown.
        let builder = ClusterClientBuilder::new(members)
            .retries(0)
            // One member that hangs must leave time for the others.
            .connection_timeout(self.connect_timeout / 4)
            .response_timeout(self.response_timeout)
            .tcp_settings(TcpSettings::default().set_nodelay(true));
        #[cfg(feature = "tls-rustls")]
        let builder = match &self.tls.certificates {
            Some(certificates) => builder.certs(certificates.clone()),
            None => builder,
        };
        #[cfg(all(feature = "tls-native-tls", not(feature = "tls-rustls")))]
        if self.tls.certificates.is_some() {
            return Err((
                ErrorKind::InvalidClientConfig,
                "certificates of one's own for a cluster need the feature tls-rustls",
            )
                .into());
        }
        let client = builder.build()?;
        let slot = Slot::new(Cluster(client), self.connect_timeout, self.protocol.clone());
        let key_prefix = self.protocol.key_prefix.clone();
        Ok(self.node(Sharded { slot, key_prefix }, name, None))
    }
}

struct Cluster(ClusterClient);

#[async_trait]
impl Dial for Cluster {
    type Connection = ClusterConnection;

    async fn dial(&self) -> Result<Dialled<ClusterConnection>, BackendError> {
        let connection = self.0.get_async_connection().await.map_err(classify)?;
        Ok(Dialled::new(connection, Arc::default()))
    }
}

/// A cluster's slot, which knows about hash slots.
struct Sharded {
    slot: Arc<Slot<Cluster>>,
    key_prefix: String,
}

#[async_trait]
impl Source for Sharded {
    type Connection = ClusterConnection;
    type Lease = Arc<Line<ClusterConnection>>;

    async fn lease(&self) -> Result<Self::Lease, BackendError> {
        self.slot.lease().await
    }

    fn line<'a>(&self, lease: &'a Self::Lease) -> &'a Arc<Line<ClusterConnection>> {
        lease
    }

    fn useful(&self) {
        self.slot.useful();
    }

    fn discard(&self, lease: Self::Lease, error: &BackendError) {
        self.slot.discard(lease, error);
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        same_slot(&self.key_prefix, resources)
    }
}

impl fmt::Debug for Sharded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slot.fmt(f)
    }
}
