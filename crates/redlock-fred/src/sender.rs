//! The commands of one operation.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use fred::types::{Resp3Frame, Value};
use redlock_core::{
    BackendError,
    redis::{RedisClient, Reply, error_reply},
};

use crate::{
    finish::finish,
    line::{Command, Line, error_text},
};

/// Sends the commands of one operation, and remembers whether the last of them was answered.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    line: Arc<Line>,
    /// Whether a command may have been sent and has not been answered.
    pub(crate) open: Arc<AtomicBool>,
}

impl Sender {
    pub(crate) fn new(line: &Arc<Line>) -> Self {
        Self {
            line: Arc::clone(line),
            open: Arc::default(),
        }
    }

    async fn send(
        &self,
        name: &str,
        args: impl Iterator<Item = &str>,
        key_at: usize,
    ) -> Result<Reply, BackendError> {
        let command = Command {
            name: name.to_owned(),
            args: args.map(Value::from).collect(),
            key_at,
        };
        let client = self.line.link.client().await;
        let client = client.map_err(BackendError::not_executed)?;
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
            Err(error) if says(&error, "NOSCRIPT") => Ok(None),
            reply => reply.map(Some),
        }
    }

    async fn command(&self, words: &[&str]) -> Result<Reply, BackendError> {
        let (name, args) = words.split_first().expect("a command");
        self.send(name, args.iter().copied(), 0).await
    }
}

fn reply(frame: &Resp3Frame) -> Result<Reply, BackendError> {
    if let Some(text) = error_text(frame) {
        return Err(error_reply(&text, text.clone()));
    }
    Ok(match frame {
        Resp3Frame::SimpleString { data, .. } if &data[..] == b"OK" => Reply::Ok,
        Resp3Frame::Null => Reply::Nil,
        Resp3Frame::Number { data, .. } => Reply::Integer(*data),
        Resp3Frame::BlobString { data, .. } => Reply::Bulk(data[..].into()),
        other => Reply::Other(format!("{other:?}")),
    })
}

fn says(error: &BackendError, code: &str) -> bool {
    let cause = error.get_ref().map(ToString::to_string);
    cause.is_some_and(|cause| cause.starts_with(code))
}
