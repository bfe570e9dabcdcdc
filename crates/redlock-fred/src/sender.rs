//! The commands of one operation.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use fred::{clients::Client, types::Resp3Frame};
use redlock_core::{
    BackendError, Instant, Probation,
    redis::{RedisBackend, RedisClient, Reply, error_reply},
};

use crate::{
    finish::finish,
    line::{Command, Guard, Line, error_text},
    link::Up,
};

/// Sends the commands of one operation, and remembers whether the last of them was answered.
#[derive(Clone)]
pub(crate) struct Sender {
    line: Arc<Line>,
    /// The only connection to send on, if that matters.
    only: Option<Client>,
    /// Whom it has asked, and when first, if there is a guard.
    asked: Arc<Mutex<Option<(Probation, Instant)>>>,
    /// Whether a command may have been sent and has not been answered.
    pub(crate) open: Arc<AtomicBool>,
}

impl Sender {
    pub(crate) fn new(line: &Arc<Line>) -> Self {
        Self {
            line: Arc::clone(line),
            only: None,
            asked: Arc::default(),
            open: Arc::default(),
        }
    }

    /// Over this connection alone.
    pub(crate) fn only(line: &Arc<Line>, client: &Client) -> Self {
        Self {
            only: Some(client.clone()),
            ..Self::new(line)
        }
    }

    /// Fails while what has just been granted does not count because the server may have forgotten others.
    pub(crate) fn past_probation(&self, fenced: bool) -> Result<(), BackendError> {
        match &*self.asked() {
            None => Ok(()),
            Some((probation, sent)) => probation.check(fenced, *sent),
        }
    }

    fn asked(&self) -> MutexGuard<'_, Option<(Probation, Instant)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that is connected to a server that has been examined, if there is a guard.
    pub(crate) async fn client(&self) -> Result<Client, BackendError> {
        if let Some(client) = &self.only {
            return Ok(client.clone());
        }
        let Up {
            client, probation, ..
        } = self.line.link.client().await?;
        if let Some(guard) = &self.line.guard {
            let examined = probation.get_or_try_init(|| self.examine(&client, guard));
            let examined = *examined.await?;
            let mut asked = self.asked();
            *asked = Some(match *asked {
                None => (examined, Instant::now()),
                Some((probation, first)) => (probation.max(examined), first),
            });
        }
        Ok(client)
    }

    async fn examine(&self, client: &Client, guard: &Guard) -> Result<Probation, BackendError> {
        let only = Self::only(&self.line, client);
        let server = RedisBackend::new(only).key_prefix(&guard.key_prefix);
        Ok(guard.restart.probation(server.examine().await?))
    }

    async fn send(
        &self,
        name: &str,
        args: impl Iterator<Item = &str>,
        key_at: usize,
    ) -> Result<Reply, BackendError> {
        let command = Command::new(name, args, key_at);
        let client = self.client().await.map_err(BackendError::not_executed)?;
        self.open.store(true, SeqCst);
        let (line, open) = (Arc::clone(&self.line), Arc::clone(&self.open));
        // Dropped, fred would write a command whenever it can; at its end it forgets one not written.
        let answer = finish(async move {
            let answer = line.exchange(client, command).await;
            let doubtful = |error: &BackendError| error.may_have_happened();
            open.store(answer.as_ref().is_err_and(doubtful), SeqCst);
            answer
        });
        reply(&answer.await?)
    }

    async fn run(
        &self,
        name: &str,
        script: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<i64, BackendError> {
        let count = keys.len().to_string();
        let keys = keys.iter().map(AsRef::as_ref);
        let words = [script, &count].into_iter().chain(keys);
        let words = words.chain(args.iter().copied());
        self.send(name, words, 2).await?.integer()
    }
}

#[async_trait]
impl RedisClient for Sender {
    async fn set(&self, key: &str, value: &str, ttl_millis: u64) -> Result<bool, BackendError> {
        let ttl = ttl_millis.to_string();
        let args = [key, value, "NX", "PX", &ttl];
        self.send("SET", args.into_iter(), 0).await?.granted()
    }

    async fn eval(
        &self,
        script: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<i64, BackendError> {
        self.run("EVAL", script, keys, args).await
    }

    async fn eval_sha(
        &self,
        sha1: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<Option<i64>, BackendError> {
        match self.run("EVALSHA", sha1, keys, args).await {
            Err(error) if is_noscript(&error) => Ok(None),
            reply => reply.map(Some),
        }
    }

    async fn command(&self, words: &[&str]) -> Result<Reply, BackendError> {
        let (name, args) = words.split_first().expect("a command");
        self.send(name, args.iter().copied(), 0).await
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line.fmt(f)
    }
}

pub(crate) fn reply(frame: &Resp3Frame) -> Result<Reply, BackendError> {
    if let Some(text) = error_text(frame) {
        return Err(error_reply(&text, text.clone()));
    }
    Ok(match frame {
        Resp3Frame::SimpleString { data, .. } if &data[..] == b"OK" => Reply::Ok,
        Resp3Frame::Null => Reply::Nil,
        Resp3Frame::Number { data, .. } => Reply::Integer(*data),
        Resp3Frame::BlobString { data, .. } | Resp3Frame::VerbatimString { data, .. } => {
            Reply::Bulk(data[..].into())
        }
        Resp3Frame::Array { data, .. } => {
            let replies = data.iter().map(reply);
            Reply::Array(replies.collect::<Result<_, _>>()?)
        }
        other => Reply::Other(format!("{other:?}")),
    })
}

pub(crate) fn is_noscript(error: &BackendError) -> bool {
    let cause = error.get_ref().map(ToString::to_string);
    cause.is_some_and(|cause| cause.starts_with("NOSCRIPT"))
}
