//! A server behind a connection pool.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use deadpool_redis::{Connection, Pool, PoolError};
use redis::aio::MultiplexedConnection;
use redlock_core::{BackendError, BackendErrorKind, redis::Capabilities};

use crate::{
    RedisNode, RedisNodeBuilder,
    connection::{Protocol, classify},
    line::{Line, Standing, within},
    node::Source,
};

impl RedisNode {
    /// The server behind a pool that you already have. A multiplexed connection
    /// ([`RedisNode::new`]) is several times faster.
    ///
    /// Waiting for a connection counts as connecting: it is bounded by the connect timeout, whatever
    /// the pool's own timeouts are. Connections on which an operation got no answer leave the pool.
    ///
    /// With a [restart guard](RedisNodeBuilder::restart_guard) the server is examined before every operation,
    /// which takes three round trips more: a pool does not tell which of its connections are new.
    #[must_use]
    pub fn from_pool(pool: Pool) -> Self {
        Self::builder().pool(pool)
    }
}

impl RedisNodeBuilder {
    /// The server behind this pool; see [`RedisNode::from_pool`].
    #[must_use]
    pub fn pool(self, pool: Pool) -> RedisNode {
        let pooled = Pooled {
            pool,
            connect_timeout: self.connect_timeout,
            capabilities: self.protocol.capabilities(),
            protocol: self.protocol.clone(),
        };
        self.node(pooled, None, None)
    }
}

struct Pooled {
    pool: Pool,
    connect_timeout: Duration,
    protocol: Protocol,
    /// Learned once for all connections of the pool.
    capabilities: Capabilities,
}

struct Lent {
    line: Arc<Line<MultiplexedConnection>>,
    connection: Connection,
}

#[async_trait]
impl Source for Pooled {
    type Connection = MultiplexedConnection;
    type Lease = Lent;

    async fn lease(&self) -> Result<Lent, BackendError> {
        let got = async {
            self.pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => classify(error),
                PoolError::Timeout(_) => BackendError::new(BackendErrorKind::Timeout, error),
                _ => BackendError::new(BackendErrorKind::Unreachable, error),
            })
        };
        let connection = within(self.connect_timeout, got).await?;
        let shared = MultiplexedConnection::clone(&connection);
        let backend = self.protocol.over(shared);
        let backend = backend.capabilities(self.capabilities.clone());
        let examined = within(
            self.connect_timeout,
            self.protocol.examine(&backend, Duration::ZERO),
        )
        .await;
        match examined {
            Ok(probation) => {
                let standing = Standing {
                    probation,
                    ..Standing::default()
                };
                let line = Line::new(backend, standing);
                Ok(Lent { line, connection })
            }
            Err(error) => {
                drop(Connection::take(connection));
                Err(error)
            }
        }
    }

    fn line<'a>(&self, lease: &'a Lent) -> &'a Arc<Line<MultiplexedConnection>> {
        &lease.line
    }

    fn dropped(&self, lease: Lent) {
        drop(Connection::take(lease.connection));
    }

    fn discard(&self, lease: Lent, _: &BackendError) {
        self.dropped(lease);
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
