//! The two commands over any connection of the redis crate.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, aio::ConnectionLike};
use redlock_core::{
    BackendError, BackendErrorKind, Probation, RestartGuard,
    redis::{Capabilities, RedisBackend, RedisClient, Reply, Waiters, error_reply},
};
use tokio::time::timeout;

/// A [`RedisClient`] over any connection of the redis crate whose clones share the connection.
///
/// It sends every command once, provided that the connection does.
#[derive(Clone)]
pub struct ConnectionClient<C> {
    connection: C,
    /// How many commands have been answered.
    answers: Arc<AtomicU64>,
}

impl<C> ConnectionClient<C> {
    /// Sends over this connection.
    pub fn new(connection: C) -> Self {
        Self {
            connection,
            answers: Arc::default(),
        }
    }

    /// The connection.
    pub const fn connection(&self) -> &C {
        &self.connection
    }

    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }
}

/// What an answer says that came in.
pub(crate) fn reply(answer: RedisResult<Value>) -> Result<Reply, BackendError> {
    let answer = answer.and_then(Value::extract_error);
    answer.map(said).map_err(classify)
}

fn said(answer: Value) -> Reply {
    match answer {
        Value::Okay => Reply::Ok,
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Integer(number),
        Value::BulkString(bytes) => Reply::Bulk(bytes.into()),
        Value::VerbatimString { text, .. } => Reply::Bulk(text.into()),
        Value::Array(answers) => Reply::Array(answers.into_iter().map(said).collect()),
        other => Reply::Other(format!("{other:?}")),
    }
}

/// How locks are written on a server, and whose votes count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protocol {
    pub(crate) key_prefix: String,
    pub(crate) scripts_only: bool,
    pub(crate) guard: Option<RestartGuard>,
    /// Those who wait at the server, where it can tell them.
    pub(crate) waiters: Option<Arc<Waiters>>,
}

impl Protocol {
    /// Over this connection, to a server of which nothing is known.
    pub(crate) fn over<C: Shareable>(&self, connection: C) -> RedisBackend<ConnectionClient<C>> {
        let backend = RedisBackend::new(ConnectionClient::new(connection))
            .key_prefix(&self.key_prefix)
            .capabilities(self.capabilities());
        match &self.waiters {
            Some(waiters) => backend.waiters(Arc::clone(waiters)),
            None => backend,
        }
    }

    /// The probation of the server behind a new connection, if there is a guard.
    pub(crate) async fn examine<C: Shareable>(
        &self,
        backend: &RedisBackend<ConnectionClient<C>>,
        lingering: Duration,
    ) -> Result<Option<Probation>, BackendError> {
        let Some(guard) = self.guard else {
            return Ok(None);
        };
        let age = backend.examine().await?;
        Ok(Some(guard.lingering(lingering).probation(age)))
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        if self.scripts_only {
            Capabilities::scripts_only()
        } else {
            Capabilities::default()
        }
    }
}

/// What a connection must be: every connection of the redis crate is.
pub(crate) trait Shareable: ConnectionLike + Clone + Send + Sync + 'static {}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Shareable for C {}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> ConnectionClient<C> {
    async fn query(&self, command: &Cmd) -> Result<Reply, BackendError> {
        let mut connection = self.connection.clone();
        let answer = connection.req_packed_command(command).await;
        self.answers.fetch_add(1, Ordering::SeqCst);
        reply(answer)
    }

    /// Whether the server answers a PING in this time.
    pub(crate) async fn is_alive(&self, limit: Duration) -> bool {
        let answer = timeout(limit, self.query(&redis::cmd("PING"))).await;
        // An error reply is an answer, too.
        answer.is_ok_and(|answer| !answer.is_err_and(|error| error.may_have_happened()))
    }
}

#[async_trait]
impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisClient for ConnectionClient<C> {
    async fn set(&self, key: &str, value: &str, ttl_millis: u64) -> Result<bool, BackendError> {
        let mut command = redis::cmd("SET");
        command
            .arg(key)
            .arg(value)
            .arg("NX")
            .arg("PX")
            .arg(ttl_millis);
        self.query(&command).await?.granted()
    }

    async fn eval(
        &self,
        script: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<i64, BackendError> {
        let command = script_command("EVAL", script, keys, args);
        self.query(&command).await?.integer()
    }

    async fn eval_sha(
        &self,
        sha1: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<Option<i64>, BackendError> {
        let command = script_command("EVALSHA", sha1, keys, args);
        match self.query(&command).await {
            Err(error) if is_noscript(&error) => Ok(None),
            reply => reply?.integer().map(Some),
        }
    }

    async fn command(&self, words: &[&str]) -> Result<Reply, BackendError> {
        self.query(&command(words.iter())).await
    }
}

impl<C> fmt::Debug for ConnectionClient<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionClient").finish_non_exhaustive()
    }
}

/// The command of these words.
pub(crate) fn command(words: impl Iterator<Item: AsRef<str>> + Clone) -> Cmd {
    let (mut count, mut length) = (0, 0);
    for word in words.clone() {
        count += 1;
        length += word.as_ref().len();
    }
    let mut command = Cmd::with_capacity(count, length);
    for word in words {
        command.arg(word.as_ref());
    }
    command
}

fn script_command(name: &str, script: &str, keys: &[Cow<'_, str>], args: &[&str]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(keys.len());
    for argument in keys.iter().map(AsRef::as_ref).chain(args.iter().copied()) {
        command.arg(argument);
    }
    command
}

/// What an error of the redis crate means for a node.
#[must_use]
pub fn classify(error: RedisError) -> BackendError {
    if let ErrorKind::Server(_) | ErrorKind::Extension = error.kind() {
        let text = [error.code(), error.detail()].map(Option::unwrap_or_default);
        return error_reply(&text.join(" "), error);
    }
    let unanswered = error.is_io_error() || error.is_unrecoverable_error();
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            BackendError::new(BackendErrorKind::Server, error).not_executed()
        }
        _ if error.is_timeout() => BackendError::new(BackendErrorKind::Timeout, error),
        _ if unanswered => BackendError::new(BackendErrorKind::Unreachable, error),
        _ => BackendError::new(BackendErrorKind::Server, error),
    }
}

pub(crate) fn cause(error: &BackendError) -> Option<&RedisError> {
    error.get_ref()?.downcast_ref()
}

/// Whether an error reply has this code, such as `READONLY`, also within the error of a script, which wraps
/// it before Redis 7.
#[must_use]
pub fn has_code(error: &RedisError, code: &str) -> bool {
    let wrapped = format!("-{code}");
    error.code() == Some(code) || error.detail().is_some_and(|text| text.contains(&wrapped))
}

pub(crate) fn is_noscript(error: &BackendError) -> bool {
    let noscript = ErrorKind::Server(ServerErrorKind::NoScript);
    cause(error).is_some_and(|error| error.kind() == noscript)
}

/// Whether a connection is of no further use after this error.
pub(crate) fn condemns(error: &BackendError) -> bool {
    match cause(error) {
        // Any error reply is an answer, and the connection works, but the server may no longer be the
        // master it was when we connected.
        Some(error) => match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => has_code(error, "READONLY"),
            _ => true,
        },
        // A timeout, or a reply that belongs to something else.
        None => error.may_have_happened(),
    }
}
