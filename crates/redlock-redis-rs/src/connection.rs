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
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, aio::ConnectionLike};
use redlock_core::{BackendError, BackendErrorKind, redis::RedisClient};
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

/// What a connection must be: every connection of the redis crate is.
pub(crate) trait Shareable: ConnectionLike + Clone + Send + Sync + 'static {}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Shareable for C {}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> ConnectionClient<C> {
    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, BackendError> {
        let mut connection = self.connection.clone();
        let answer = command.query_async(&mut connection).await;
        self.answers.fetch_add(1, Ordering::SeqCst);
        answer.map_err(classify)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> ConnectionClient<C> {
    /// Whether the server answers a PING in this time.
    pub(crate) async fn is_alive(&self, limit: Duration) -> bool {
        let answer = timeout(limit, self.query::<redis::Value>(&redis::cmd("PING"))).await;
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
        match self.query::<Option<String>>(&command).await?.as_deref() {
            Some("OK") => Ok(true),
            None => Ok(false),
            Some(other) => {
                let shown: String = other.chars().take(100).collect();
                Err(BackendError::new(
                    BackendErrorKind::Server,
                    format!("unexpected reply to SET: {shown:?}"),
                ))
            }
        }
    }

    async fn eval(
        &self,
        script: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<i64, BackendError> {
        self.query(&script_command("EVAL", script, keys, args))
            .await
    }

    async fn eval_sha(
        &self,
        sha1: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<Option<i64>, BackendError> {
        let reply = self
            .query(&script_command("EVALSHA", sha1, keys, args))
            .await;
        match reply {
            Err(error) if needs_the_script(&error) => Ok(None),
            reply => reply.map(Some),
        }
    }
}

impl<C> fmt::Debug for ConnectionClient<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionClient").finish_non_exhaustive()
    }
}

fn script_command(name: &str, script: &str, keys: &[Cow<'_, str>], args: &[&str]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(keys.len());
    for argument in keys.iter().map(AsRef::as_ref).chain(args.iter().copied()) {
        command.arg(argument);
    }
    command
}

pub(crate) fn classify(error: RedisError) -> BackendError {
    let kind = error.kind();
    let answered = matches!(
        kind,
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed
    );
    let kind = if error.is_timeout() {
        BackendErrorKind::Timeout
    } else if !answered && (error.is_io_error() || error.is_unrecoverable_error()) {
        BackendErrorKind::Unreachable
    } else {
        BackendErrorKind::Server
    };
    let error = BackendError::new(kind, error);
    // An error reply says that the command was not executed.
    if answered {
        error.not_executed()
    } else {
        error
    }
}

fn cause(error: &BackendError) -> Option<&RedisError> {
    error.get_ref()?.downcast_ref()
}

/// Whether EVALSHA was refused for a reason for which EVAL need not be.
fn needs_the_script(error: &BackendError) -> bool {
    cause(error).is_some_and(|error| match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript | ServerErrorKind::NoPerm) => true,
        _ => error
            .detail()
            .is_some_and(|detail| detail.starts_with("unknown command")),
    })
}

/// Whether a connection is of no further use after this error.
pub(crate) fn condemns(error: &BackendError) -> bool {
    match cause(error) {
        // Any error reply is an answer, and the connection works, but the server may no longer be the
        // master it was when we connected; before Redis 7 a script wraps that error.
        Some(error) => match error.kind() {
            ErrorKind::Server(ServerErrorKind::ReadOnly) => true,
            ErrorKind::Server(_) | ErrorKind::Extension => error
                .detail()
                .is_some_and(|detail| detail.contains("-READONLY")),
            _ => true,
        },
        // A timeout, or a reply that belongs to something else.
        None => true,
    }
}
