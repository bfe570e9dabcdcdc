//! A server that moves.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redis::{Client, ConnectionInfo, RedisError, aio::MultiplexedConnection};
use redlock_core::{BackendError, redis::Waiters};

use crate::{
    connection::{cause, classify, condemns},
    node::Tls,
    pipe::Pipe,
    slot::{Dial, Dialled},
    standalone::Standalone,
};

/// Tells where a server is that moves, such as the master of a group with failover.
///
/// [`RedisNodeBuilder::follow`](crate::RedisNodeBuilder::follow) makes a node of it.
#[async_trait]
pub trait Follow: fmt::Debug + Send + Sync + 'static {
    /// Where the server is now. Asked by one task at a time, whenever a new connection is needed; with
    /// the connection itself and [`arrived`](Self::arrived) it is bounded by the connect timeout.
    async fn find(&self) -> Result<ConnectionInfo, BackendError>;

    /// Examines a new connection before it is used, and may begin to watch over it. It says who has to
    /// confirm the votes that come over this connection, if anybody.
    async fn arrived(&self, server: &Server) -> Result<Option<Arc<dyn Witness>>, BackendError>;

    /// Whether the server must be looked for again after this error reply, beyond `READONLY`.
    fn condemns(&self, error: &RedisError) -> bool {
        let _ = error;
        false
    }

    /// For how long, at most, a server may still be counted by others after it has been replaced; a
    /// [restart guard](crate::RedisNodeBuilder::restart_guard) waits for so much longer.
    fn lingering(&self) -> Duration {
        Duration::ZERO
    }

    /// What the node is called in votes, unless its builder says otherwise.
    fn name(&self) -> Option<String> {
        None
    }
}

/// Confirms what a server grants, before it counts.
#[async_trait]
pub trait Witness: Send + Sync + 'static {
    /// Asked after the server has granted an acquire or an extension, in bounded time. An error takes the
    /// vote back, and an acquire is released; what was granted may have happened, whatever the error says.
    async fn confirm(&self) -> Result<(), BackendError>;
}

/// A server at which a node has arrived.
pub struct Server {
    connection: MultiplexedConnection,
    info: ConnectionInfo,
    tls: Tls,
    key_prefix: String,
    retire: Retire,
}

impl Server {
    /// The connection on which the node will send its operations.
    #[must_use]
    pub fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Where the server is, and how it is spoken to.
    #[must_use]
    pub const fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// A client for further connections to the same server.
    ///
    /// # Errors
    ///
    /// As [`RedisNode::new`](crate::RedisNode::new).
    pub fn client(&self) -> Result<Client, RedisError> {
        self.tls.open(self.info.clone())
    }

    /// The key of this name on the server, with the node's prefix.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.key_prefix)
    }

    /// What ends the use of this connection.
    #[must_use]
    pub fn retire(&self) -> Retire {
        self.retire.clone()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", self.info.addr())
            .finish_non_exhaustive()
    }
}

/// Ends the use of a connection: the next operation looks for the server again.
#[derive(Clone, Debug)]
pub struct Retire {
    retired: Weak<AtomicBool>,
    closed: Arc<AtomicBool>,
}

impl Retire {
    /// Nothing new is sent on the connection, and no answer counts that is still on its way.
    pub fn retire(&self) {
        if let Some(retired) = self.retired.upgrade() {
            retired.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the connection is no longer in use, for whatever reason.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        let retired = self.retired.upgrade();
        self.closed.load(Ordering::SeqCst)
            || retired.is_none_or(|retired| retired.load(Ordering::SeqCst))
    }
}

pub(crate) struct Followed {
    pub(crate) follow: Box<dyn Follow>,
    pub(crate) tls: Tls,
    pub(crate) key_prefix: String,
    pub(crate) waiters: Arc<Waiters>,
}

#[async_trait]
impl Dial for Followed {
    type Connection = Pipe;

    async fn dial(&self) -> Result<Dialled<Pipe>, BackendError> {
        let info = self.follow.find().await?;
        let waiters = Arc::clone(&self.waiters);
        let standalone = Standalone::new(info.clone(), self.tls.clone(), waiters);
        let standalone = standalone.map_err(classify)?;
        let mut dialled = standalone.dial().await?;
        let server = Server {
            connection: dialled.connection.connection().clone(),
            info,
            tls: self.tls.clone(),
            key_prefix: self.key_prefix.clone(),
            retire: Retire {
                retired: Arc::downgrade(&dialled.standing.retired),
                closed: Arc::clone(&dialled.standing.closed),
            },
        };
        dialled.standing.witness = self.follow.arrived(&server).await?;
        Ok(dialled)
    }

    fn condemns(&self, error: &BackendError) -> bool {
        condemns(error) || cause(error).is_some_and(|error| self.follow.condemns(error))
    }

    fn lingering(&self) -> Duration {
        self.follow.lingering()
    }
}
