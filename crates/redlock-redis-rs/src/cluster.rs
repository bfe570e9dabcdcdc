//! A Redis Cluster as one node.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use async_trait::async_trait;
use redis::{
    ConnectionInfo, IntoConnectionInfo, RedisError,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
};
use redlock_core::{BackendError, Resources};

use crate::{
    RedisNode, RedisNodeBuilder,
    connection::classify,
    node::Source,
    retired::Backend,
    slot::{Dial, Slot},
};

impl RedisNode {
    /// A Redis Cluster, found through some of its members, as one node of the Redlock.
    ///
    /// A cluster replicates asynchronously: a failover inside it can forget a lock, so that it is one
    /// vote among several, not a quorum of its own. Several resources must share a hash slot, by a
    /// `{tag}` in their names; otherwise the call fails before anything is sent. Nothing is sent now,
    /// and the cluster need not be up.
    ///
    /// # Errors
    ///
    /// When there is no URL, or one makes no sense, or they differ in their credentials.
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
        for member in &members {
            self.tls.open(member.clone())?;
        }
        let name = members
            .first()
            .map(|member| format!("cluster {}", member.addr()));
        // Retries would send an acquire again whose outcome is unknown.
        let builder = ClusterClientBuilder::new(members)
            .retries(0)
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.response_timeout)
            .tcp_settings(TcpSettings::default().set_nodelay(true));
        #[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
        let builder = match &self.tls.certificates {
            Some(certificates) => builder.certs(certificates.clone()),
            None => builder,
        };
        let client = builder.build()?;
        let slot = Slot::new(Cluster(client), self.connect_timeout, &self.key_prefix);
        let key_prefix = self.key_prefix.clone();
        Ok(self.node(Sharded { slot, key_prefix }, name))
    }
}

struct Cluster(ClusterClient);

#[async_trait]
impl Dial for Cluster {
    type Connection = ClusterConnection;
    /// Each member answers in order, but not all of them together.
    const REPLIES_IN_ORDER: bool = false;

    async fn dial(&self, _closed: Arc<AtomicBool>) -> Result<ClusterConnection, BackendError> {
        self.0.get_async_connection().await.map_err(classify)
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
    type Lease = <Arc<Slot<Cluster>> as Source>::Lease;
    const REPLIES_IN_ORDER: bool = Cluster::REPLIES_IN_ORDER;

    async fn lease(&self) -> Result<(Backend<ClusterConnection>, Self::Lease), BackendError> {
        self.slot.lease().await
    }

    fn discard(&self, lease: Self::Lease) -> bool {
        self.slot.discard(lease)
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        let slot = |name: &str| hash_slot(&format!("{}{name}", self.key_prefix));
        let first = &resources[0];
        match resources.iter().find(|name| slot(name) != slot(first)) {
            None => Ok(()),
            Some(other) => Err(format!(
                "{first:?} and {other:?} are in different slots of the cluster; give them a common \
                 {{tag}}, as in \"{{order}}:1\" and \"{{order}}:2\""
            )),
        }
    }
}

impl fmt::Debug for Sharded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slot.fmt(f)
    }
}

/// The slot of a key, by the Redis Cluster specification: of what stands between the first `{` and the
/// next `}` if that is not empty, otherwise of the whole key.
fn hash_slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let hashed = match tag {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    };
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_slots_are_those_of_the_specification() {
        assert_eq!(hash_slot("123456789"), 0x31C3);
        assert_eq!(hash_slot("{user1000}.following"), hash_slot("user1000"));
        assert_eq!(hash_slot("foo{bar}{zap}"), hash_slot("bar"));
        assert_eq!(hash_slot("foo{{bar}}zap"), hash_slot("{bar"));
        assert_ne!(hash_slot("foo{}{bar}"), hash_slot("bar"));
        assert_ne!(hash_slot("foo{bar"), hash_slot("bar"));
    }
}
