//! A node, wherever its server is found.

use std::{borrow::Cow, fmt, pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult,
    aio::ConnectionLike,
};
use redlock_core::{BackendError, LockBackend, LockValue, Resources, Vote, redis::RedisBackend};
use tokio::time::timeout;

use crate::{
    connection::{ConnectionClient, Shareable, condemns},
    retired::{Backend, Retired},
    slot::Slot,
    standalone::Standalone,
};

/// One independent Redis node. Cheap to clone; clones are the same node.
///
/// See the [crate's documentation](crate) for the ways to reach one.
#[derive(Clone)]
pub struct RedisNode(Arc<dyn LockBackend>);

/// Settings of a [`RedisNode`]; its last call says where the server is found.
#[derive(Clone)]
#[must_use]
pub struct RedisNodeBuilder {
    name: Option<String>,
    pub(crate) key_prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) tls: Tls,
}

impl RedisNode {
    /// The server at this URL, such as `redis://user:password@host:6379`, over one multiplexed
    /// connection that is dialled when it is first needed and replaced when it fails.
    ///
    /// Nothing is sent, and the server need not be up.
    ///
    /// # Errors
    ///
    /// When the URL makes no sense, or asks for TLS and no TLS feature is enabled.
    pub fn new(url: impl IntoConnectionInfo) -> Result<Self, RedisError> {
        Self::builder().open(url)
    }

    /// The server behind a connection that you already have, such as a
    /// [`MultiplexedConnection`](redis::aio::MultiplexedConnection) or a `ConnectionManager`.
    ///
    /// Reconnecting is up to the connection. It must never repeat a command, and its clones must share
    /// the connection, so that a release follows its acquire.
    pub fn from_connection<C>(connection: C) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self::builder().connection(connection)
    }

    /// A node with settings of your own.
    pub const fn builder() -> RedisNodeBuilder {
        RedisNodeBuilder {
            name: None,
            key_prefix: String::new(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            tls: Tls::new(),
        }
    }
}

impl RedisNodeBuilder {
    /// Names the node in votes. Default: its address, where that is known.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Put before every resource's name to make its key. Default: nothing.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// How long establishing a connection may take, with TLS and authentication. Default 1 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// After what time without any answer, though some are due, a connection is retired. Default 1 s.
    ///
    /// The vote itself is given up after the node timeout of the `Redlock`, which is usually shorter.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// The certificates for `rediss://`, where the system's roots do not do.
    #[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
    pub fn tls_certificates(mut self, certificates: redis::TlsCertificates) -> Self {
        self.tls.certificates = Some(certificates);
        self
    }

    /// The server at this URL; see [`RedisNode::new`].
    ///
    /// # Errors
    ///
    /// As [`RedisNode::new`].
    pub fn open(self, url: impl IntoConnectionInfo) -> Result<RedisNode, RedisError> {
        let info = url.into_connection_info()?;
        let address = match info.addr() {
            ConnectionAddr::Unix(path) => path.display().to_string(),
            host_and_port => host_and_port.to_string().to_ascii_lowercase(),
        };
        let dial = Standalone::new(info, self.tls.clone())?;
        let slot = Slot::new(dial, self.connect_timeout, &self.key_prefix);
        Ok(self.node(slot, Some(address)))
    }

    /// The server behind this connection; see [`RedisNode::from_connection`].
    pub fn connection<C>(self, connection: C) -> RedisNode
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        let backend = RedisBackend::new(ConnectionClient::new(connection));
        let backend = Arc::new(backend.key_prefix(&self.key_prefix));
        self.node(Given(backend), None)
    }

    /// The node over this source of connections.
    pub(crate) fn node<S: Source>(self, source: S, address: Option<String>) -> RedisNode {
        RedisNode(Arc::new(Node {
            name: self.name.or(address),
            response_timeout: self.response_timeout,
            connect_timeout: self.connect_timeout,
            source,
            retired: Retired::new(),
        }))
    }
}

/// Where a node's connections come from.
#[async_trait]
pub(crate) trait Source: fmt::Debug + Send + Sync + 'static {
    type Connection: Shareable;
    /// What identifies the connection towards the source; dropping it gives the connection back.
    type Lease: Send + Sync;
    /// Whether replies come in the order of the commands.
    const REPLIES_IN_ORDER: bool;

    /// A connection to send one operation on.
    async fn lease(&self) -> Result<(Backend<Self::Connection>, Self::Lease), BackendError>;

    /// Never hands this connection out again; false if it has no other.
    fn discard(&self, lease: Self::Lease) -> bool;

    /// See [`LockBackend::check`].
    fn check(&self, resources: &Resources) -> Result<(), String> {
        let _ = resources;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Acquire(Duration),
    Extend(Duration),
    Release,
}

struct Node<S: Source> {
    name: Option<String>,
    connect_timeout: Duration,
    response_timeout: Duration,
    source: S,
    retired: Retired<S::Connection>,
}

/// An operation under way: dropped before it is answered, it retires its connection.
struct UnderWay<'a, S: Source> {
    node: &'a Node<S>,
    lease: Option<(Backend<S::Connection>, S::Lease)>,
}

impl<S: Source> Drop for UnderWay<'_, S> {
    fn drop(&mut self) {
        if let Some((backend, lease)) = self.lease.take()
            && self.node.source.discard(lease)
        {
            self.node.retired.keep(backend, S::REPLIES_IN_ORDER);
        }
    }
}

impl<S: Source> Node<S> {
    async fn run(
        &self,
        operation: Operation,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        let leased = timeout(self.connect_timeout, self.source.lease()).await;
        let (backend, lease) = leased
            .unwrap_or_else(|_| Err(BackendError::timeout()))
            .map_err(BackendError::not_sent)?;
        let mut under_way = UnderWay {
            node: self,
            lease: Some((Arc::clone(&backend), lease)),
        };
        let sent = async {
            match operation {
                Operation::Acquire(ttl) => backend.acquire(resources, value, ttl).await,
                Operation::Extend(ttl) => backend.extend(resources, value, ttl).await,
                Operation::Release => backend.release(resources, value).await,
            }
        };
        let answer = while_alive(self.response_timeout, backend.client(), sent).await;
        if !answer.as_ref().is_err_and(condemns) {
            under_way.lease = None;
        }
        answer
    }
}

/// The answer, or a timeout once the connection has been silent for that long.
///
/// Not the age of one operation counts: a server that is busy, or a client that has sent thousands of
/// commands at once, answers late, and giving such a connection up would make it later still. Silence
/// has to be seen twice, because a client that was starved itself finds its timers due and the answers
/// unread.
async fn while_alive<C>(
    silence: Duration,
    client: &ConnectionClient<C>,
    sent: impl Future<Output = Result<Vote, BackendError>>,
) -> Result<Vote, BackendError> {
    let mut sent = pin!(sent);
    let mut silent = false;
    loop {
        let answers = client.answers();
        match timeout(silence / 2, &mut sent).await {
            Ok(answer) => return answer,
            Err(_) if client.answers() != answers => silent = false,
            Err(_) if !silent => silent = true,
            Err(_) => return Err(BackendError::timeout()),
        }
    }
}

#[async_trait]
impl<S: Source> LockBackend for Node<S> {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.run(Operation::Acquire(ttl), resources, value).await
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        self.retired.release(resources, value);
        self.run(Operation::Release, resources, value).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.run(Operation::Extend(ttl), resources, value).await
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.name.as_deref().map(Into::into)
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        self.source.check(resources)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl LockBackend for RedisNode {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.0.acquire(resources, value, ttl).await
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        self.0.release(resources, value).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.0.extend(resources, value, ttl).await
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.0.name()
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        self.0.check(resources)
    }
}

impl fmt::Debug for RedisNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Source> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNode")
            .field("name", &self.name)
            .field("state", &self.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisNodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNodeBuilder")
            .field("name", &self.name)
            .field("key_prefix", &self.key_prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

/// A connection that somebody else keeps up.
struct Given<C>(Backend<C>);

#[async_trait]
impl<C: Shareable> Source for Given<C> {
    type Connection = C;
    type Lease = ();
    const REPLIES_IN_ORDER: bool = false;

    async fn lease(&self) -> Result<(Backend<C>, ()), BackendError> {
        Ok((Arc::clone(&self.0), ()))
    }

    fn discard(&self, (): ()) -> bool {
        false
    }
}

impl<C> fmt::Debug for Given<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("given connection")
    }
}

/// How `rediss://` is spoken.
#[derive(Clone)]
pub(crate) struct Tls {
    #[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
    pub(crate) certificates: Option<redis::TlsCertificates>,
}

impl Tls {
    const fn new() -> Self {
        Self {
            #[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
            certificates: None,
        }
    }

    /// A client for this server. Sends nothing.
    #[cfg_attr(
        not(any(feature = "tls-rustls", feature = "tls-native-tls")),
        expect(clippy::unused_self, reason = "there is nothing to set without TLS")
    )]
    pub(crate) fn open(&self, info: ConnectionInfo) -> RedisResult<Client> {
        #[cfg(feature = "tls-rustls")]
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // rustls panics without a provider; the application's own choice, made earlier, stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        #[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
        if let Some(certificates) = &self.certificates {
            return Client::build_with_tls(info, certificates.clone());
        }
        Client::open(info)
    }
}
