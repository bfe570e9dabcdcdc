//! A node, wherever its server is found.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult,
    aio::ConnectionLike,
};
use redlock_core::{
    BackendError, BackendErrorKind, Holder, Instant, LockBackend, LockValue, Place, Proposal,
    Reply, Resources, RestartGuard, Vote, Wake, forward_backend,
    redis::{Ear, Waiters, not_reserved},
};

use crate::{
    begun::begin,
    connection::{Protocol, Shareable, condemns},
    doubt::Doubts,
    follow::{Follow, Followed},
    line::{Line, Standing},
    slot::{Dial, Hearing, Slot},
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
    pub(crate) protocol: Protocol,
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
            protocol: Protocol {
                key_prefix: String::new(),
                scripts_only: false,
                guard: None,
                waiters: None,
            },
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
        self.protocol.key_prefix = prefix.into();
        self
    }

    /// Uses scripts even where the server has [native commands](redlock_core::redis): for a proxy that
    /// closes the connection upon a command that it does not know.
    pub const fn scripts_only(mut self) -> Self {
        self.protocol.scripts_only = true;
        self
    }

    /// Keeps the server out of votes for the time of the longest ttl in use, whoever uses it, after it has restarted
    /// or been replaced: it may have forgotten what it granted. Default: it votes at once.
    ///
    /// Every new connection is examined for that, by `INFO` and a script with the key `redlock:guard` behind the
    /// key prefix, so that clients agree on when the server was first seen; also the first time of all. A
    /// longer ttl is refused before anything is sent. Fenced acquisitions have to wait for
    /// [`FORGETFUL`](redlock_core::FORGETFUL) at least.
    ///
    /// A node over a connection that somebody else keeps up cannot have it, nor a cluster.
    pub const fn restart_guard(mut self, max_ttl: Duration) -> Self {
        self.protocol.guard = Some(RestartGuard::new(max_ttl));
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
    pub fn open(mut self, url: impl IntoConnectionInfo) -> Result<RedisNode, RedisError> {
        let info = url.into_connection_info()?;
        let address = address_of(&info);
        let waiters = self.listening();
        let dial = Standalone::new(info, self.tls.clone(), waiters)?;
        Ok(self.over(dial, Some(address)))
    }

    /// The server behind this connection; see [`RedisNode::from_connection`].
    ///
    /// With a restart guard all votes are errors: the connection may be another one unnoticed.
    pub fn connection<C>(self, connection: C) -> RedisNode
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        let given = Given {
            line: Line::new(self.protocol.over(connection), Standing::default()),
            guarded: self.protocol.guard.is_some(),
        };
        self.node(given, None, None)
    }

    /// A client of the redis crate for the server at this URL, with these settings' certificates. Sends
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`RedisNode::new`].
    pub fn client(&self, url: impl IntoConnectionInfo) -> RedisResult<Client> {
        self.tls.open(url.into_connection_info()?)
    }

    /// The server that this follows wherever it moves, over one multiplexed connection at a time.
    pub fn follow(mut self, follow: impl Follow) -> RedisNode {
        let name = follow.name();
        let dial = Followed {
            follow: Box::new(follow),
            tls: self.tls.clone(),
            key_prefix: self.protocol.key_prefix.clone(),
            waiters: self.listening(),
        };
        self.over(dial, name)
    }

    /// Those who will wait at the server.
    fn listening(&mut self) -> Arc<Waiters> {
        let waiters = Waiters::new();
        self.protocol.waiters = Some(Arc::clone(&waiters));
        waiters
    }

    /// The node over connections dialled so, at which one can wait.
    fn over<D: Dial>(self, dial: D, address: Option<String>) -> RedisNode {
        let slot = Slot::new(dial, self.connect_timeout, self.protocol.clone());
        let ear = Hearing {
            slot: Arc::clone(&slot),
            response_timeout: self.response_timeout,
        };
        let waiters = self.protocol.waiters.clone();
        let waiters = waiters.filter(|_| !self.protocol.scripts_only);
        let waiting = waiters.map(|waiters| Waiting {
            waiters,
            ear: Arc::new(ear),
            key_prefix: self.protocol.key_prefix.clone(),
        });
        self.node(slot, address, waiting)
    }

    /// The node over this source of connections.
    pub(crate) fn node<S: Source>(
        self,
        source: S,
        address: Option<String>,
        waiting: Option<Waiting>,
    ) -> RedisNode {
        let node = Node {
            waiting,
            name: self.name.or(address),
            response_timeout: self.response_timeout,
            max_ttl: self.protocol.guard.map(RestartGuard::max_ttl),
            source,
            doubts: Doubts::new(),
        };
        RedisNode(Arc::new(Shared(Arc::new(node))))
    }
}

/// Where a node's connections come from.
#[async_trait]
pub(crate) trait Source: fmt::Debug + Send + Sync + 'static {
    type Connection: Shareable;
    /// A connection in use; dropping it gives it back.
    type Lease: Send + Sync + 'static;

    /// A connection to send one operation on, in bounded time.
    async fn lease(&self) -> Result<Self::Lease, BackendError>;

    /// A connection that is there already, on which operations can be begun.
    fn line_now(&self) -> Option<Arc<Line<Self::Connection>>> {
        None
    }

    fn line<'a>(&self, lease: &'a Self::Lease) -> &'a Arc<Line<Self::Connection>>;

    /// A connection has done what it was asked.
    fn useful(&self) {}

    /// An operation on it was dropped before it was answered.
    fn dropped(&self, lease: Self::Lease) {
        drop(lease);
    }

    /// Never hands this connection out again, after this error.
    fn discard(&self, lease: Self::Lease, error: &BackendError);

    /// As [`discard`](Self::discard), for one that was [there already](Self::line_now).
    fn retire(&self, line: &Arc<Line<Self::Connection>>, error: &BackendError) {
        let _ = (line, error);
    }

    /// Whether a connection is of no further use after this error.
    fn condemns(&self, error: &BackendError) -> bool {
        condemns(error)
    }

    /// See [`LockBackend::check`].
    fn check(&self, resources: &Resources) -> Result<(), String> {
        let _ = resources;
        Ok(())
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Acquire(Duration, Option<Proposal>),
    Extend(Duration),
    Release,
    Undo,
}

/// Begins operations that outlive the call.
struct Shared<S: Source>(Arc<Node<S>>);

/// How to wait at a server.
pub(crate) struct Waiting {
    waiters: Arc<Waiters>,
    ear: Arc<dyn Ear>,
    key_prefix: String,
}

pub(crate) struct Node<S: Source> {
    waiting: Option<Waiting>,
    name: Option<String>,
    pub(crate) response_timeout: Duration,
    max_ttl: Option<Duration>,
    pub(crate) source: S,
    pub(crate) doubts: Doubts<S::Connection>,
}

/// An operation under way: an acquire that ends, or is dropped, without an answer is in doubt.
struct UnderWay<'a, S: Source> {
    node: &'a Node<S>,
    value: &'a LockValue,
    lease: Option<S::Lease>,
    in_doubt: bool,
}

impl<S: Source> Drop for UnderWay<'_, S> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take().filter(|_| self.in_doubt) {
            self.node
                .doubts
                .add(self.value, self.node.source.line(&lease));
            self.node.source.dropped(lease);
        }
    }
}

impl<S: Source> Node<S> {
    pub(crate) async fn run(
        &self,
        operation: Operation,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        let leased = self.source.lease().await;
        if let Operation::Release | Operation::Undo = operation {
            let present = leased.as_ref().ok().map(|lease| self.source.line(lease));
            self.doubts.release(resources, value, present);
        }
        let lease = leased.map_err(BackendError::not_executed)?;
        let line = Arc::clone(self.source.line(&lease));
        let mut under_way = UnderWay {
            node: self,
            value,
            lease: Some(lease),
            in_doubt: matches!(operation, Operation::Acquire(..)),
        };
        let sent_at = Instant::now();
        let sent = async {
            match operation {
                Operation::Acquire(ttl, None) => line.backend.acquire(resources, value, ttl).await,
                Operation::Acquire(ttl, Some(proposal)) => {
                    let backend = &line.backend;
                    let asked = backend.acquire_fenced(resources, value, ttl, proposal);
                    asked.await
                }
                Operation::Extend(ttl) => line.backend.extend(resources, value, ttl).await,
                Operation::Release => line.backend.release(resources, value).await,
                Operation::Undo => line.backend.undo(resources, value).await,
            }
        };
        let answer = line.answer(self.response_timeout, sent).await;
        let vote = match answer {
            Ok(vote) => vote,
            Err(error) => {
                under_way.in_doubt = false;
                let condemned = self.failed(operation, value, &line, &error);
                if let Some(lease) = under_way.lease.take().filter(|_| condemned) {
                    self.source.discard(lease, &error);
                }
                return Err(error);
            }
        };
        let answer = self
            .counted(operation, resources, value, &line, sent_at, vote)
            .await;
        under_way.in_doubt = false;
        answer
    }

    /// An operation on this connection ended with this error; whether the connection is of no further use.
    pub(crate) fn failed(
        &self,
        operation: Operation,
        value: &LockValue,
        line: &Arc<Line<S::Connection>>,
        error: &BackendError,
    ) -> bool {
        if matches!(operation, Operation::Acquire(..)) && error.may_have_happened() {
            self.doubts.add(value, line);
        }
        self.source.condemns(error)
    }

    /// The vote, if it counts.
    pub(crate) async fn counted(
        &self,
        operation: Operation,
        resources: &Resources,
        value: &LockValue,
        line: &Arc<Line<S::Connection>>,
        sent_at: Instant,
        vote: Vote,
    ) -> Result<Vote, BackendError> {
        self.useful(operation, resources, vote);
        let counts = match (vote, operation) {
            (Vote::Granted, Operation::Acquire(..) | Operation::Extend(_)) => line.confirm().await,
            _ => line.still_counts(),
        };
        match (counts, operation) {
            // What a server grants on probation it holds all the same, and helps who holds it elsewhere.
            (Ok(()), Operation::Acquire(..) | Operation::Extend(_)) if vote == Vote::Granted => {
                let fenced = matches!(operation, Operation::Acquire(_, Some(_)));
                line.past_probation(fenced, sent_at).map(|()| vote)
            }
            (Ok(()), _) => Ok(vote),
            (Err(error), Operation::Acquire(..)) if vote == Vote::Granted => {
                Err(self.take_back(line, resources, value, error).await)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The connection has answered an operation with this vote.
    pub(crate) fn useful(&self, operation: Operation, resources: &Resources, vote: Vote) {
        // A server that cannot write can still say no, but not to a SET.
        let is_set = matches!(operation, Operation::Acquire(_, None)) && resources.len() == 1;
        if vote == Vote::Granted || is_set {
            self.source.useful();
        }
    }

    /// Releases what was granted but does not count, on the connection that granted it.
    async fn take_back(
        &self,
        line: &Arc<Line<S::Connection>>,
        resources: &Resources,
        value: &LockValue,
        error: BackendError,
    ) -> BackendError {
        let release = line.backend.release(resources, value);
        let released = line.answer(self.response_timeout, release).await.is_ok();
        // Another master may have it from the one that granted it.
        if released && line.still_counts().is_ok() {
            return error.not_executed();
        }
        self.doubts.add(value, line);
        error
    }
}

#[async_trait]
impl<S: Source> LockBackend for Shared<S> {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.0
            .run(Operation::Acquire(ttl, None), resources, value)
            .await
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let operation = Operation::Acquire(ttl, Some(proposal));
        self.0.run(operation, resources, value).await
    }

    fn supports_fencing(&self) -> bool {
        true
    }

    fn max_ttl(&self) -> Option<Duration> {
        self.0.max_ttl
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        self.0.run(Operation::Release, resources, value).await
    }

    async fn undo(&self, resources: &Resources, value: &LockValue) -> Result<Vote, BackendError> {
        self.0.run(Operation::Undo, resources, value).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.0.run(Operation::Extend(ttl), resources, value).await
    }

    async fn wait(&self, resources: &Resources, place: Place) -> Result<Wake, BackendError> {
        let Some(waiting) = &self.0.waiting else {
            let cause = "nothing is told over a connection that is not the node's own, or takes scripts only";
            return Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed());
        };
        let Waiting {
            waiters,
            ear,
            key_prefix,
        } = waiting;
        waiters.wait(ear, key_prefix, resources, place).await
    }

    fn is_awaited(&self, resources: &Resources) -> bool {
        let waiting = self.0.waiting.as_ref();
        waiting.is_some_and(|waiting| waiting.waiters.is_awaited(resources))
    }

    /// A replica can answer, too: that is no sign of a useful connection.
    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        let Self(node) = self;
        let lease = node.source.lease().await;
        let lease = lease.map_err(BackendError::not_executed)?;
        let line = Arc::clone(node.source.line(&lease));
        let sent = line.backend.inspect(resource);
        let answer = line.answer(node.response_timeout, sent).await;
        if let Err(error) = &answer
            && node.source.condemns(error)
        {
            node.source.discard(lease, error);
        }
        answer
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.0.name.as_deref().map(Into::into)
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        not_reserved(resources)?;
        self.0.source.check(resources)
    }

    fn begin_acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        reply: Reply,
    ) -> Result<(), Reply> {
        begin(&self.0, Some(ttl), resources, value, reply)
    }

    fn begin_release(
        &self,
        resources: &Resources,
        value: &LockValue,
        reply: Reply,
    ) -> Result<(), Reply> {
        begin(&self.0, None, resources, value, reply)
    }
}

forward_backend!([] RedisNode, |node| node.0);

impl fmt::Debug for RedisNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Source> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNode")
            .field("name", &self.0.name)
            .field("state", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisNodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNodeBuilder")
            .field("name", &self.name)
            .field("protocol", &self.protocol)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

/// The same login at another address.
#[must_use]
pub fn moved_to(server: ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let address = match server.addr().clone() {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure,
            tls_params,
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    server.set_addr(address)
}

/// The server's address in one spelling.
pub(crate) fn address_of(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Unix(path) => path.display().to_string(),
        host_and_port => host_and_port.to_string().to_ascii_lowercase(),
    }
}

/// A connection that somebody else keeps up.
struct Given<C> {
    line: Arc<Line<C>>,
    guarded: bool,
}

#[async_trait]
impl<C: Shareable> Source for Given<C> {
    type Connection = C;
    type Lease = Arc<Line<C>>;

    async fn lease(&self) -> Result<Arc<Line<C>>, BackendError> {
        if self.guarded {
            let cause = "a restart guard needs a connection of the node's own";
            return Err(BackendError::new(BackendErrorKind::Unsupported, cause));
        }
        Ok(Arc::clone(&self.line))
    }

    fn line<'a>(&self, lease: &'a Arc<Line<C>>) -> &'a Arc<Line<C>> {
        lease
    }

    fn discard(&self, _: Arc<Line<C>>, _: &BackendError) {}
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
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. })
            && rustls::crypto::CryptoProvider::get_default().is_none()
        {
            // rustls panics without a provider; the application's own choice, made earlier, stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        #[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
        if let (ConnectionAddr::TcpTls { .. }, Some(certificates)) =
            (info.addr(), &self.certificates)
        {
            return Client::build_with_tls(info, certificates.clone());
        }
        Client::open(info)
    }
}
