//! One client, and whether its connections are alive.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::{
    bytes_utils::Str,
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, Resp3Frame, Value, config::Options},
};
use futures_util::future::join_all;
use redlock_core::{BackendError, BackendErrorKind, RestartGuard};
use tokio::time::{Instant, timeout};

use crate::link::Link;

pub(crate) struct Line {
    pub(crate) link: Arc<Link>,
    response_timeout: Duration,
    pub(crate) guard: Option<Guard>,
    /// How many commands have been answered.
    answers: AtomicU64,
    /// Until when its connections are not checked again.
    rest: Mutex<Option<Instant>>,
}

/// Keeps servers out of votes that may have forgotten what they granted.
pub(crate) struct Guard {
    pub(crate) restart: RestartGuard,
    pub(crate) key_prefix: String,
}

/// A command, with the place of a key among its arguments.
pub(crate) struct Command {
    pub(crate) name: Str,
    pub(crate) args: Vec<Value>,
    pub(crate) key_at: usize,
}

impl Command {
    pub(crate) fn new<'a>(name: &str, args: impl Iterator<Item = &'a str>, key_at: usize) -> Self {
        Self {
            name: text(name),
            args: args.map(text).map(Value::String).collect(),
            key_at,
        }
    }

    fn key(&self) -> Value {
        self.args[self.key_at].clone()
    }
}

/// Without a copy of what is the same in every command.
fn text(word: &str) -> Str {
    const SAME: [&str; 5] = ["SET", "NX", "PX", "EVALSHA", "1"];
    let same = SAME.into_iter().find(|same| *same == word);
    same.map_or_else(|| Str::from(word.to_owned()), Str::from_static)
}

impl Line {
    pub(crate) fn new(
        link: Arc<Link>,
        response_timeout: Duration,
        guard: Option<Guard>,
    ) -> Arc<Self> {
        Arc::new(Self {
            link,
            response_timeout,
            guard,
            answers: AtomicU64::new(0),
            rest: Mutex::new(None),
        })
    }

    /// Sends a command once; the reply may be an error.
    pub(crate) async fn exchange(
        self: Arc<Self>,
        client: Client,
        command: Command,
    ) -> Result<Resp3Frame, BackendError> {
        let before = self.answers.load(SeqCst);
        let key = command.key();
        let answer = send(&client, command, self.response_timeout).await;
        self.note(&client, &key, before, &answer);
        answer
    }

    /// Sends commands of one moment to one server, each once, and has each answered when its reply comes in. What was
    /// not, though the time is up, is dropped.
    pub(crate) async fn exchange_each<T>(
        self: &Arc<Self>,
        client: &Client,
        commands: Vec<(Command, T)>,
        answered: impl Fn(T, Result<Resp3Frame, BackendError>),
    ) {
        let Some((first, _)) = commands.first() else {
            return;
        };
        let (before, key, limit) = (
            self.answers.load(SeqCst),
            first.key(),
            self.response_timeout,
        );
        let (key, answered) = (&key, &answered);
        let each = commands.into_iter().map(|(command, whom)| async move {
            let answer = sent(client, command, limit).await;
            self.note(client, key, before, &answer);
            answered(whom, answer);
        });
        if timeout(2 * limit, join_all(each)).await.is_err() {
            self.note(client, key, before, &Err(BackendError::timeout()));
        }
    }

    /// Draws conclusions from an answer; `before` the command was sent there were so many.
    fn note(
        self: &Arc<Self>,
        client: &Client,
        key: &Value,
        before: u64,
        answer: &Result<Resp3Frame, BackendError>,
    ) {
        match answer {
            Ok(frame) => {
                self.answers.fetch_add(1, SeqCst);
                if no_master(frame) {
                    self.link.replace(client);
                } else if useful(frame) {
                    self.link.useful();
                }
            }
            // Another member of a cluster proves nothing by its answers.
            Err(error)
                if error.kind() == BackendErrorKind::Timeout
                    && (client.is_clustered() || self.answers.load(SeqCst) == before)
                    && self.may_check() =>
            {
                tokio::spawn(Arc::clone(self).check(client.clone(), key.clone()));
            }
            Err(_) => {}
        }
    }

    /// Replaces the connections if the one that leads to this key is silent.
    async fn check(self: Arc<Self>, client: Client, key: Value) {
        let ping = Command {
            name: Str::from_static("PING"),
            args: vec![key],
            key_at: 0,
        };
        if send(&client, ping, self.response_timeout / 2)
            .await
            .is_err()
        {
            self.link.replace(&client);
        }
    }

    /// Whether it has not been checked for a while; if so, it is checked now.
    fn may_check(&self) -> bool {
        let now = Instant::now();
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let may = rest.is_none_or(|until| until <= now);
        if may {
            *rest = Some(now + self.response_timeout);
        }
        may
    }
}

async fn send(
    client: &Client,
    command: Command,
    limit: Duration,
) -> Result<Resp3Frame, BackendError> {
    // Its own timeout begins only when it has taken the command.
    timeout(2 * limit, sent(client, command, limit))
        .await
        .unwrap_or_else(|_| Err(BackendError::timeout()))
}

async fn sent(
    client: &Client,
    command: Command,
    limit: Duration,
) -> Result<Resp3Frame, BackendError> {
    let options = Options {
        // More than one would send an acquire again whose outcome is unknown.
        max_attempts: Some(1),
        // After it, a command that has not been written yet never is.
        timeout: Some(limit),
        fail_fast: true,
        // Of what a custom command itself says, fred overlooks an offset.
        cluster_hash: Some(ClusterHash::Offset(command.key_at)),
        ..Options::default()
    };
    let name = CustomCommand::new(command.name, ClusterHash::FirstKey, false);
    let client = client.with_options(&options);
    client
        .custom_raw(name, command.args)
        .await
        .map_err(|error| {
            if *error.kind() == ErrorKind::Timeout {
                return BackendError::new(BackendErrorKind::Timeout, error);
            }
            let never = never_executed(&error);
            let error = BackendError::new(BackendErrorKind::Unreachable, error);
            if never { error.not_executed() } else { error }
        })
}

/// Whether fred had no connection to write it to, or the server only named another one.
fn never_executed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Canceled | ErrorKind::Routing)
        || error.details() == "Failed to send command to router."
}

/// Whether only a server that does its work gives this answer: a replica, too, can say 0.
fn useful(reply: &Resp3Frame) -> bool {
    match reply {
        Resp3Frame::SimpleString { .. } | Resp3Frame::Null => true,
        Resp3Frame::Number { data, .. } => *data > 0,
        // Of several releases: null stands for one that was not done.
        Resp3Frame::Array { data, .. } => data.iter().any(|one| *one != Resp3Frame::Null),
        _ => false,
    }
}

/// Whether the server is no longer the master, which sentinels may find elsewhere.
fn no_master(reply: &Resp3Frame) -> bool {
    // Before Redis 7 a script wraps these errors.
    error_text(reply).is_some_and(|text| text.contains("READONLY") || text.contains("NOREPLICAS"))
}

/// The text of an error reply.
pub(crate) fn error_text(frame: &Resp3Frame) -> Option<String> {
    match frame {
        Resp3Frame::SimpleError { data, .. } => Some(data.to_string()),
        Resp3Frame::BlobError { data, .. } => Some(String::from_utf8_lossy(data).into_owned()),
        _ => None,
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.fmt(f)
    }
}
