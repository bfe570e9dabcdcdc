//! A server behind a connection pool.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use deadpool_redis::{Connection, Pool, PoolError};
use redis::aio::MultiplexedConnection;
use redlock_core::{BackendError, BackendErrorKind, redis::RedisBackend};

use crate::{
    RedisNode, RedisNodeBuilder,
    connection::{ConnectionClient, classify},
    node::Source,
    retired::Backend,
};

impl RedisNode {
    /// The server behind a pool that you already have. A multiplexed connection
    /// ([`RedisNode::new`]) is several times faster.
    ///
    /// Waiting for a connection counts as connecting: it is bounded by the connect timeout, whatever
    /// the pool's own timeouts are. Connections on which an operation got no answer leave the pool.
    #[must_use]
    pub fn from_pool(pool: Pool) -> Self {
        Self::builder().pool(pool)
    }
}

impl RedisNodeBuilder {
    /// The server behind this pool; see [`RedisNode::from_pool`].
    #[must_use]
    pub fn pool(self, pool: Pool) -> RedisNode {
        let key_prefix = self.key_prefix.clone();
        self.node(Pooled { pool, key_prefix }, None)
    }
}

struct Pooled {
    pool: Pool,
    key_prefix: String,
}

#[async_trait]
impl Source for Pooled {
    type Connection = MultiplexedConnection;
    type Lease = Connection;
    const REPLIES_IN_ORDER: bool = true;

    async fn lease(&self) -> Result<(Backend<MultiplexedConnection>, Connection), BackendError> {
        let lease = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => classify(error),
            PoolError::Timeout(_) => BackendError::new(BackendErrorKind::Timeout, error),
            _ => BackendError::new(BackendErrorKind::Unreachable, error),
        })?;
        let client = ConnectionClient::new(MultiplexedConnection::clone(&lease));
        let backend = RedisBackend::new(client).key_prefix(&self.key_prefix);
        Ok((Arc::new(backend), lease))
    }

    fn discard(&self, lease: Connection) -> bool {
        drop(Connection::take(lease));
        true
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.pool.status();
        write!(
            f,
            "pool of {} of {} connections",
            status.size, status.max_size
        )
    }
}
