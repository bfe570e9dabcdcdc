//! What a URL stands for.

use std::{
    fmt::{self, Display},
    sync::Arc,
    time::Duration,
};

use redlock::{
    LockBackend, RedisNode, RedisNodeBuilder, SentinelNode,
    redis_rs::redis::{ConnectionInfo, IntoConnectionInfo, RedisError},
};

const SCHEMES: &str = "the URL has to begin with redis, rediss, unix, redis-cluster, rediss-cluster, \
                       sentinel or sentinels";

/// For servers whose URL has no password.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// A node, and the servers behind it.
pub(crate) struct Node {
    pub(crate) backend: Arc<dyn LockBackend>,
    pub(crate) servers: Servers,
}

/// How the servers of a node are reached, each with its login.
#[derive(Clone)]
pub(crate) enum Servers {
    One(ConnectionInfo),
    /// Those members of a cluster that are listed.
    Members(Vec<ConnectionInfo>),
    /// A master that sentinels name; `server` tells all but where it is.
    Group {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        server: ConnectionInfo,
    },
}

/// The kinds of nodes, by the scheme of their URL.
enum Kind {
    Server,
    Cluster { tls: bool },
    Sentinels { tls: bool },
}

/// The parts of `scheme://[user:password@]host:port,host:port/rest`.
struct Members<'a> {
    tls: bool,
    login: Option<&'a str>,
    hosts: Vec<&'a str>,
    rest: &'a str,
}

impl Credentials {
    /// These, or else those: a password belongs to its own user name.
    pub(crate) fn or(self, other: &Self) -> Self {
        if self.password.is_some() {
            return self;
        }
        Self {
            username: self.username.or_else(|| other.username.clone()),
            password: other.password.clone(),
        }
    }

    /// Logs in with these, unless the URL has a password.
    fn complete(&self, info: ConnectionInfo) -> ConnectionInfo {
        let mut settings = info.redis_settings().clone();
        if settings.password().is_some() {
            return info;
        }
        if let Some(username) = self
            .username
            .as_ref()
            .filter(|_| settings.username().is_none())
        {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        info.set_redis_settings(settings)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl<'a> Members<'a> {
    fn parse(tls: bool, url: &'a str) -> Self {
        let (login, url) = match url.rsplit_once('@') {
            Some((login, url)) => (Some(login), url),
            None => (None, url),
        };
        let (hosts, rest) = url.split_once('/').unwrap_or((url, ""));
        Self {
            tls,
            login,
            hosts: hosts.split(',').collect(),
            rest,
        }
    }

    /// Each of them as a server.
    fn infos(&self) -> Result<Vec<ConnectionInfo>, RedisError> {
        let scheme = scheme(self.tls);
        let login = self
            .login
            .map_or_else(String::new, |login| format!("{login}@"));
        let hosts = self.hosts.iter();
        hosts
            .map(|host| format!("{scheme}://{login}{host}").into_connection_info())
            .collect()
    }
}

const fn scheme(tls: bool) -> &'static str {
    if tls { "rediss" } else { "redis" }
}

fn kind(url: &str) -> (Kind, &str) {
    let schemes = [
        ("redis-cluster://", Kind::Cluster { tls: false }),
        ("rediss-cluster://", Kind::Cluster { tls: true }),
        ("sentinel://", Kind::Sentinels { tls: false }),
        ("sentinels://", Kind::Sentinels { tls: true }),
    ];
    let found = schemes.into_iter();
    let mut found = found.filter_map(|(scheme, kind)| Some((kind, url.strip_prefix(scheme)?)));
    found.next().unwrap_or((Kind::Server, url))
}

/// Whether the URL itself has a password.
pub(crate) fn has_password(url: &str) -> bool {
    let infos = match kind(url) {
        (Kind::Server, url) => url.into_connection_info().map(|info| vec![info]),
        (Kind::Cluster { tls } | Kind::Sentinels { tls }, rest) => {
            Members::parse(tls, rest).infos()
        }
    };
    let has = |info: &ConnectionInfo| info.redis_settings().password().is_some();
    infos.is_ok_and(|infos| infos.iter().any(has))
}

/// The node at this URL. The reason for a failure does not contain it.
///
/// Locks last no longer than the guard says: so long its votes do not count after a restart.
pub(crate) fn open(
    url: &str,
    credentials: &Credentials,
    guard: Option<Duration>,
) -> Result<Node, String> {
    let builder = RedisNode::builder();
    let builder = match guard {
        Some(max_ttl) => builder.restart_guard(max_ttl),
        None => builder,
    };
    match kind(url) {
        (Kind::Server, url) => server(url, credentials, builder),
        (Kind::Cluster { tls }, rest) => cluster(&Members::parse(tls, rest), credentials, builder),
        (Kind::Sentinels { tls }, rest) => {
            sentinels(&Members::parse(tls, rest), credentials, builder)
        }
    }
}

fn server(url: &str, credentials: &Credentials, builder: RedisNodeBuilder) -> Result<Node, String> {
    let info = url
        .into_connection_info()
        .map_err(|error| match url.split_once(':') {
            Some(("redis" | "rediss" | "unix", _)) => error.to_string(),
            _ => SCHEMES.to_owned(),
        })?;
    let info = credentials.complete(info);
    let node = builder.open(info.clone()).map_err(reason)?;
    Ok(Node {
        backend: Arc::new(node),
        servers: Servers::One(info),
    })
}

fn cluster(
    members: &Members<'_>,
    credentials: &Credentials,
    builder: RedisNodeBuilder,
) -> Result<Node, String> {
    let infos = members.infos().map_err(reason)?;
    let infos = infos.into_iter().map(|info| credentials.complete(info));
    let infos: Vec<_> = infos.collect();
    let node = builder.cluster(infos.clone()).map_err(reason)?;
    Ok(Node {
        backend: Arc::new(node),
        servers: Servers::Members(infos),
    })
}

/// The login of the URL is for the sentinels, which it lists.
fn sentinels(
    sentinels: &Members<'_>,
    credentials: &Credentials,
    builder: RedisNodeBuilder,
) -> Result<Node, String> {
    let (master, database) = sentinels
        .rest
        .split_once('/')
        .unwrap_or((sentinels.rest, "0"));
    if master.is_empty() {
        return Err(
            "the name of the master is missing: sentinel://host:port,host:port/name".into(),
        );
    }
    let server = format!("{}://master/{database}", scheme(sentinels.tls));
    let server = server.into_connection_info().map_err(reason)?;
    let server = credentials.complete(server);
    let sentinels = sentinels.infos().map_err(reason)?;
    let node = SentinelNode::builder()
        .settings(builder)
        .server(server.clone())
        .open(sentinels.clone(), master)
        .map_err(reason)?;
    Ok(Node {
        backend: Arc::new(node),
        servers: Servers::Group {
            sentinels,
            master: master.to_owned(),
            server,
        },
    })
}

fn reason(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod fuzz;
