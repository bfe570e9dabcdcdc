//! A node, wherever its server is found.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use fred::{
    clients::{Client, Pool},
    error::{Error, ErrorKind},
    interfaces::ClientLike,
    types::{
        RespVersion,
        config::{Config, ConnectionConfig, ServerConfig, TcpConfig},
    },
};
use redlock_core::{
    BackendError, BackendErrorKind, Holder, LockBackend, LockValue, Place, Proposal, Reply,
    Resources, RestartGuard, Vote, Wake,
    redis::{Capabilities, RedisBackend, not_reserved, same_slot},
};

use crate::{
    doubt::Doubts,
    ear::Waiting,
    line::{Guard, Line},
    link::Link,
    sender::Sender,
    together::{Together, UnderWay, begin_acquire, begin_release},
};

/// What a step of connecting has at least.
const LEAST_STEP: Duration = Duration::from_millis(100);

/// One independent Redis node. Cheap to clone; clones are the same node.
///
/// See the [crate's documentation](crate) for the ways to reach one.
#[derive(Clone)]
pub struct FredNode(pub(crate) Arc<Node>);

/// Settings of a [`FredNode`]; its last call says where the server is found.
#[derive(Clone, Debug)]
#[must_use]
pub struct FredNodeBuilder {
    name: Option<String>,
    key_prefix: String,
    scripts_only: bool,
    guard: Option<RestartGuard>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl FredNode {
    /// The server at this URL, such as `redis://user:password@host:6379`, `redis-cluster://host` or
    /// `redis-sentinel://host:26379?sentinelServiceName=name`, over one client that is connected when it is
    /// first needed and again when its connection is lost.
    ///
    /// Nothing is sent, no runtime is needed, and the server need not be up. A cluster is one vote among
    /// several, not a quorum of its own, as a failover inside it can forget a lock; several resources must
    /// share a hash slot, by a `{tag}` in their names. A server that is given twice is noticed by its address as it
    /// is written, not by what a name resolves to.
    ///
    /// # Errors
    ///
    /// When the URL makes no sense.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder().open(url)
    }

    /// The server behind a client that you already have, with the client's configuration (address, credentials,
    /// database, TLS, protocol) over a connection of the node's own: one more for your server.
    ///
    /// Your client itself is not used, and need not be connected: its timeouts, attempts and reconnecting do not
    /// matter, and no command of yours can get in the way of a vote. A resolver that you have set on it is not
    /// taken over.
    ///
    /// # Errors
    ///
    /// When there is no address in its configuration.
    pub fn from_client(client: &Client) -> Result<Self, Error> {
        Self::builder().client(client)
    }

    /// The server behind a pool that you already have, as [`from_client`](Self::from_client), over one
    /// connection: more would not be faster.
    ///
    /// # Errors
    ///
    /// As [`from_client`](Self::from_client).
    pub fn from_pool(pool: &Pool) -> Result<Self, Error> {
        Self::builder().pool(pool)
    }

    /// A node with settings of your own.
    pub const fn builder() -> FredNodeBuilder {
        FredNodeBuilder {
            name: None,
            key_prefix: String::new(),
            scripts_only: false,
            guard: None,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
        }
    }
}

impl FredNodeBuilder {
    /// Names the node in votes. Default: its address.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Put before every resource's name to make its key. Default: nothing.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Uses scripts even where the server has [native commands](redlock_core::redis): for a proxy that
    /// closes the connection upon a command that it does not know.
    pub const fn scripts_only(mut self) -> Self {
        self.scripts_only = true;
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
    /// A cluster cannot have it, nor a master found by sentinels (`redlock-sentinel` can): that is an error when
    /// the node is made.
    pub const fn restart_guard(mut self, max_ttl: Duration) -> Self {
        self.guard = Some(RestartGuard::new(max_ttl));
        self
    }

    /// How long connecting may take, with TLS and authentication. Default 1 s. Where several addresses are given,
    /// each has its part of it, so that one that hangs leaves time for the others.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a command may wait to be written and answered, and after what time without any answer,
    /// though some are due, a connection is checked, to be replaced if a PING stays unanswered for half as
    /// long again. Default 1 s.
    ///
    /// The vote itself is given up after the node timeout of the `Redlock`, which is usually shorter.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// The server at this URL; see [`FredNode::new`].
    ///
    /// # Errors
    ///
    /// As [`FredNode::new`].
    pub fn open(self, url: impl AsRef<str>) -> Result<FredNode, Error> {
        #[cfg(feature = "tls-rustls")]
        if fred::rustls::crypto::CryptoProvider::get_default().is_none() {
            // rustls panics without a provider; the application's own choice, made earlier, stays.
            let _ = fred::rustls::crypto::ring::default_provider().install_default();
        }
        self.config(Config::from_url(url.as_ref())?)
    }

    /// The server that fred finds by this configuration, for RESP3 or TLS with certificates of your own;
    /// otherwise as [`FredNode::new`].
    ///
    /// # Errors
    ///
    /// When there is no address in it.
    pub fn config(self, config: Config) -> Result<FredNode, Error> {
        self.over(config, ConnectionConfig::default())
    }

    /// The server behind this client; see [`FredNode::from_client`].
    ///
    /// # Errors
    ///
    /// As [`FredNode::from_client`].
    pub fn client(self, client: &Client) -> Result<FredNode, Error> {
        let checks = ConnectionConfig {
            // Some users may not ask for it.
            disable_cluster_health_check: client.connection_config().disable_cluster_health_check,
            ..ConnectionConfig::default()
        };
        self.over(client.client_config(), checks)
    }

    /// The server behind this pool; see [`FredNode::from_pool`].
    ///
    /// # Errors
    ///
    /// As [`FredNode::from_pool`].
    pub fn pool(self, pool: &Pool) -> Result<FredNode, Error> {
        self.client(&pool.clients()[0])
    }

    fn over(self, mut config: Config, connection: ConnectionConfig) -> Result<FredNode, Error> {
        config.fail_fast = true;
        let address = address_of(&config.server);
        let address = address.ok_or_else(|| Error::new(ErrorKind::Config, "no address"))?;
        let step = self.step(config.server.hosts().len());
        let connection = ConnectionConfig {
            connection_timeout: step,
            internal_command_timeout: step,
            max_command_attempts: 1,
            // Upon ASK, fred would ask for one attempt more than it has, and end the client.
            max_redirections: 0,
            tcp: TcpConfig {
                nodelay: Some(true),
                ..TcpConfig::default()
            },
            ..connection
        };
        let template = Client::new(config, None, Some(connection), None);
        if self.guard.is_some() && template.is_clustered() {
            let cause = "a restart guard cannot tell which member of a cluster gave a vote";
            return Err(Error::new(ErrorKind::Config, cause));
        }
        let by_sentinels = matches!(
            template.client_config().server,
            ServerConfig::Sentinel { .. }
        );
        if self.guard.is_some() && by_sentinels {
            let cause = "fred keeps to a former master for too long for a restart guard; use redlock-sentinel";
            return Err(Error::new(ErrorKind::Config, cause));
        }
        let can_wait = !template.is_clustered() && !self.scripts_only;
        let waiting = can_wait.then(|| {
            let config = Config {
                version: RespVersion::RESP3,
                ..template.client_config()
            };
            let ear = Client::new(
                config,
                None,
                Some(template.connection_config().clone()),
                None,
            );
            let ear = Link::new(ear, self.connect_timeout);
            let ear = Line::new(ear, self.response_timeout, None);
            Waiting::new(ear, &self.key_prefix, self.connect_timeout)
        });
        let guard = self.guard.map(|restart| Guard {
            restart,
            key_prefix: self.key_prefix.clone(),
        });
        Ok(FredNode(Arc::new(Node {
            name: self.name.unwrap_or(address),
            key_prefix: self.key_prefix,
            waiting,
            max_ttl: self.guard.map(RestartGuard::max_ttl),
            clustered: template.is_clustered(),
            capabilities: if self.scripts_only {
                Capabilities::scripts_only()
            } else {
                Capabilities::default()
            },
            line: Line::new(
                Link::new(template, self.connect_timeout),
                self.response_timeout,
                guard,
            ),
            doubts: Doubts::new(),
            together: Together::default(),
        })))
    }

    /// How long one step of connecting may take: a host that hangs must leave time for the others.
    fn step(&self, hosts: usize) -> Duration {
        let parts = match u32::try_from(hosts) {
            Ok(0 | 1) | Err(_) => 1,
            Ok(hosts) => hosts.saturating_add(1),
        };
        let part = self.connect_timeout / parts;
        part.max(LEAST_STEP).min(self.connect_timeout)
    }
}

pub(crate) struct Node {
    name: String,
    key_prefix: String,
    /// Not in a cluster, nor where scripts are all that may be sent.
    waiting: Option<Waiting>,
    max_ttl: Option<Duration>,
    clustered: bool,
    capabilities: Capabilities,
    pub(crate) line: Arc<Line>,
    pub(crate) doubts: Doubts,
    pub(crate) together: Together,
}

impl Node {
    /// Whether it is one server, which may be asked in any way.
    pub(crate) fn is_one_server(&self) -> bool {
        self.waiting.is_some() && self.line.guard.is_none()
    }

    /// For one operation.
    pub(crate) fn backend(&self) -> RedisBackend<Sender> {
        let backend = RedisBackend::new(Sender::new(&self.line))
            .key_prefix(&self.key_prefix)
            .capabilities(self.capabilities.clone());
        match &self.waiting {
            Some(waiting) => backend.waiters(Arc::clone(&waiting.waiters)),
            None => backend,
        }
    }
}

/// An acquire that ends, or is dropped, without an answer is in doubt.
struct Acquiring<'a> {
    _under_way: UnderWay<'a>,
    doubts: &'a Doubts,
    value: &'a LockValue,
    backend: RedisBackend<Sender>,
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        let open = &self.backend.client().open;
        if open.load(SeqCst) {
            self.doubts.add(self.value, Arc::clone(open));
        }
    }
}

impl FredNode {
    fn acquiring<'a>(&'a self, value: &'a LockValue) -> Acquiring<'a> {
        Acquiring {
            _under_way: self.0.together.under_way(),
            doubts: &self.0.doubts,
            value,
            backend: self.0.backend(),
        }
    }

    fn releasing(&self, resources: &Resources, value: &LockValue) -> RedisBackend<Sender> {
        let node = Arc::downgrade(&self.0);
        self.0.doubts.release(node, resources, value);
        self.0.backend()
    }
}

/// The vote, unless it was granted by a server that is on probation: that holds it all the same, and helps who
/// holds it elsewhere.
fn counted(backend: &RedisBackend<Sender>, vote: Vote, fenced: bool) -> Result<Vote, BackendError> {
    if vote == Vote::Granted {
        backend.client().past_probation(fenced)?;
    }
    Ok(vote)
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl LockBackend for FredNode {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let acquiring = self.acquiring(value);
        let backend = &acquiring.backend;
        let vote = backend.acquire(resources, value, ttl).await?;
        counted(backend, vote, false)
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let acquiring = self.acquiring(value);
        let backend = &acquiring.backend;
        let asked = backend.acquire_fenced(resources, value, ttl, proposal);
        let vote = asked.await?;
        counted(backend, vote, true)
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
        let _under_way = self.0.together.under_way();
        let backend = self.releasing(resources, value);
        backend.release(resources, value).await
    }

    async fn undo(&self, resources: &Resources, value: &LockValue) -> Result<Vote, BackendError> {
        let backend = self.releasing(resources, value);
        backend.undo(resources, value).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let backend = self.0.backend();
        let vote = backend.extend(resources, value, ttl).await?;
        counted(&backend, vote, false)
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        self.0.backend().inspect(resource).await
    }

    async fn wait(&self, resources: &Resources, place: Place) -> Result<Wake, BackendError> {
        let Some(waiting) = &self.0.waiting else {
            let cause =
                "a cluster, or a proxy that takes scripts only, does not tell whose turn it is";
            return Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed());
        };
        waiting.wait(resources, place).await
    }

    fn is_awaited(&self, resources: &Resources) -> bool {
        let waiting = self.0.waiting.as_ref();
        waiting.is_some_and(|waiting| waiting.waiters.is_awaited(resources))
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        Some(self.0.name.as_str().into())
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        not_reserved(resources)?;
        if self.0.clustered {
            same_slot(&self.0.key_prefix, resources)
        } else {
            Ok(())
        }
    }

    fn begin_acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        reply: Reply,
    ) -> Result<(), Reply> {
        begin_acquire(&self.0, resources, value, ttl, reply)
    }

    fn begin_release(
        &self,
        resources: &Resources,
        value: &LockValue,
        reply: Reply,
    ) -> Result<(), Reply> {
        begin_release(&self.0, resources, value, reply)
    }
}

impl fmt::Debug for FredNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FredNode")
            .field("name", &self.0.name)
            .field("state", &self.0.line)
            .finish_non_exhaustive()
    }
}

/// The address in one spelling; of several, however they are listed, the same.
fn address_of(server: &ServerConfig) -> Option<String> {
    let hosts = server.hosts();
    let spelled = hosts
        .iter()
        .map(|host| host.to_string().to_ascii_lowercase());
    let first = spelled.min()?;
    Some(match server {
        ServerConfig::Sentinel { service_name, .. } => {
            format!("{service_name} of sentinel {first}")
        }
        server if server.is_clustered() => format!("cluster {first}"),
        _ => first,
    })
}
