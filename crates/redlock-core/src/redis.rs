//! Locks on a Redis node, of which a driver needs to send only two commands.
//!
//! A lock is one plain string key per resource, exactly the resource's name unless a
//! [prefix](RedisBackend::key_prefix) is set: taken with `SET key value NX PX ttl`, extended and
//! released by scripts that compare the value. That is the same on the wire as the Redlock libraries
//! of other languages, so that all of them exclude each other.

use std::{borrow::Cow, fmt, sync::LazyLock, time::Duration};

use async_trait::async_trait;

use crate::{BackendError, LockBackend, LockValue, Resources, Vote, validity::whole_millis};

/// Sends two commands to one Redis server: where a driver for a client library starts.
///
/// A command is sent at most once, whatever happens to the connection. Every method is bounded in
/// time and, when it fails or is dropped, leaves open whether the command was executed.
#[async_trait]
pub trait RedisClient: fmt::Debug + Send + Sync + 'static {
    /// `SET key value NX PX ttl_millis`: true for `OK`, false for nil.
    async fn set(&self, key: &str, value: &str, ttl_millis: u64) -> Result<bool, BackendError>;

    /// `EVAL script numkeys key… arg…`, for a script that returns an integer.
    async fn eval(
        &self,
        script: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<i64, BackendError>;

    /// `EVALSHA sha1 numkeys key… arg…`; `None` for the error `NOSCRIPT`, upon which the script is sent
    /// whole. `None` without asking, the default, always sends it whole.
    async fn eval_sha(
        &self,
        sha1: &str,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<Option<i64>, BackendError> {
        let _ = (sha1, keys, args);
        Ok(None)
    }

    /// The server's address, without credentials; see [`LockBackend::name`].
    fn name(&self) -> Option<Cow<'_, str>> {
        None
    }
}

/// A script of the protocol.
struct Script {
    source: &'static str,
    sha1: LazyLock<String>,
}

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: Script = Script {
            source: include_str!($file),
            sha1: LazyLock::new(|| {
                sha1_smol::Sha1::from(include_str!($file))
                    .digest()
                    .to_string()
            }),
        };
    };
}

script!(ACQUIRE, "lua/acquire.lua");
script!(RELEASE, "lua/release.lua");
script!(EXTEND, "lua/extend.lua");

/// The [`LockBackend`] of everything that speaks Redis, over a [`RedisClient`].
#[derive(Clone, Debug)]
pub struct RedisBackend<C> {
    client: C,
    prefix: String,
}

impl<C: RedisClient> RedisBackend<C> {
    /// A backend whose keys are exactly the resources' names.
    pub const fn new(client: C) -> Self {
        Self {
            client,
            prefix: String::new(),
        }
    }

    /// Puts a prefix before every resource's name to make its key.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The client.
    pub const fn client(&self) -> &C {
        &self.client
    }

    /// The keys of these resources, in their order.
    pub fn keys<'a>(&'a self, resources: &'a Resources) -> impl Iterator<Item = Cow<'a, str>> {
        resources.iter().map(|name| {
            if self.prefix.is_empty() {
                Cow::Borrowed(name.as_str())
            } else {
                Cow::Owned(format!("{}{name}", self.prefix))
            }
        })
    }

    async fn run(
        &self,
        script: &Script,
        resources: &Resources,
        args: &[&str],
    ) -> Result<i64, BackendError> {
        let keys: Vec<_> = self.keys(resources).collect();
        match self.client.eval_sha(&script.sha1, &keys, args).await? {
            Some(reply) => Ok(reply),
            None => self.client.eval(script.source, &keys, args).await,
        }
    }
}

#[async_trait]
impl<C: RedisClient> LockBackend for RedisBackend<C> {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let ttl = whole_millis(ttl);
        let granted = if resources.len() == 1 {
            let key = self.keys(resources).next().expect("one resource");
            self.client.set(&key, value.as_str(), ttl).await?
        } else {
            self.run(&ACQUIRE, resources, &[value.as_str(), &ttl.to_string()])
                .await?
                == 1
        };
        Ok(Vote::granted_if(granted))
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        let deleted = self.run(&RELEASE, resources, &[value.as_str()]).await?;
        Ok(Vote::granted_if(
            usize::try_from(deleted) == Ok(resources.len()),
        ))
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let ttl = whole_millis(ttl).to_string();
        let extended = self
            .run(&EXTEND, resources, &[value.as_str(), &ttl])
            .await?;
        Ok(Vote::granted_if(extended == 1))
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.client.name()
    }
}
