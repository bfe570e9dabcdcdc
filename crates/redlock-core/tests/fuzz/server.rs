//! A server that answers anything, and remembers what it was sent.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use proptest::prelude::*;
use redlock_core::{
    BackendError, BackendErrorKind, RawValue,
    redis::{RedisClient, Reply, error_reply},
};

use crate::parsers::{CODES, text};

/// What comes of a command.
#[derive(Clone, Debug)]
pub enum Answer {
    Reply(Reply),
    /// An error reply.
    Error(String),
    /// None at all.
    Failure(BackendErrorKind),
}

impl Answer {
    fn into_reply(self) -> Result<Reply, BackendError> {
        match self {
            Self::Reply(reply) => Ok(reply),
            Self::Error(text) => Err(error_reply(&text, text.clone())),
            Self::Failure(kind) => Err(BackendError::new(kind, "it broke")),
        }
    }

    pub fn is(&self, reply: &Reply) -> bool {
        matches!(self, Self::Reply(it) if it == reply)
    }

    /// Whether it says that the command was not executed.
    pub fn refuses(&self) -> bool {
        let reply = self.clone().into_reply();
        reply.is_err_and(|error| !error.may_have_happened())
    }
}

pub fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        2 => Just(Reply::Ok),
        2 => Just(Reply::Nil),
        2 => Just(Reply::Integer(1)),
        3 => (-3..4_i64).prop_map(Reply::Integer),
        1 => any::<i64>().prop_map(Reply::Integer),
        1 => any::<Vec<u8>>().prop_map(|bytes| Reply::Bulk(bytes.into())),
        1 => prop::sample::select(vec!["OK", "1", ":1", "+OK"])
            .prop_map(|text| Reply::Bulk(RawValue::from(text))),
        3 => info().prop_map(|text| Reply::Bulk(RawValue::from(text))),
        1 => text().prop_map(Reply::Other),
    ]
}

/// What INFO may tell.
fn info() -> impl Strategy<Value = String> {
    let line = "(#[A-Za-z ]{0,8}|(run_id|master_replid|:|[a-z_]{0,8}):?[ -~]{0,12}|run_id:[0-9a-f]{4}|\\PC{0,8})";
    prop::collection::vec((line, "\r?\n?"), 0..8)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + &end).collect())
}

fn error() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("NOPERM this user has no permissions".to_owned()),
        2 => Just("ERR unknown command 'DELEX'".to_owned()),
        1 => Just("ERR syntax error".to_owned()),
        1 => Just("ERR This instance has cluster support disabled".to_owned()),
        2 => Just("NOSCRIPT No matching script".to_owned()),
        2 => (prop::sample::select(&CODES[..]), text()).prop_map(|(code, rest)| format!("{code} {rest}")),
        1 => text(),
    ]
}

pub fn answer() -> impl Strategy<Value = Answer> {
    use BackendErrorKind::{Server, Timeout, Unreachable};
    prop_oneof![
        5 => reply().prop_map(Answer::Reply),
        5 => error().prop_map(Answer::Error),
        1 => prop::sample::select(vec![Server, Timeout, Unreachable]).prop_map(Answer::Failure),
    ]
}

/// Gives these answers, one after the other, and none when there are no more.
#[derive(Debug)]
pub struct Anything {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<(Vec<String>, Answer)>>,
}

impl Anything {
    pub fn new(answers: Vec<Answer>) -> Self {
        Self {
            answers: Mutex::new(answers.into()),
            asked: Mutex::default(),
        }
    }

    /// What was sent since the last time, each with what came of it.
    pub fn take_asked(&self) -> Vec<(Vec<String>, Answer)> {
        std::mem::take(&mut lock(&self.asked))
    }

    fn ask<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<Reply, BackendError> {
        let answer = lock(&self.answers).pop_front();
        let answer = answer.unwrap_or(Answer::Failure(BackendErrorKind::Timeout));
        let words = words.into_iter().map(Into::into).collect();
        lock(&self.asked).push((words, answer.clone()));
        answer.into_reply()
    }

    fn script(
        &self,
        command: &str,
        script: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<Reply, BackendError> {
        let count = keys.len().to_string();
        let words = [command, script, &count].into_iter();
        let words = words.chain(keys.iter().map(AsRef::as_ref));
        self.ask(words.chain(args.iter().copied()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl RedisClient for Anything {
    async fn set(&self, key: &str, value: &str, ttl_millis: u64) -> Result<bool, BackendError> {
        let ttl = ttl_millis.to_string();
        self.ask(["SET", key, value, "NX", "PX", &ttl])?.granted()
    }

    async fn eval(
        &self,
        script: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<i64, BackendError> {
        self.script("EVAL", script, keys, args)?.integer()
    }

    async fn eval_sha(
        &self,
        sha1: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<Option<i64>, BackendError> {
        match self.script("EVALSHA", sha1, keys, args) {
            Err(error) if error.to_string().contains("NOSCRIPT ") => Ok(None),
            reply => reply?.integer().map(Some),
        }
    }

    async fn command(&self, words: &[&str]) -> Result<Reply, BackendError> {
        self.ask(words.iter().copied())
    }
}
