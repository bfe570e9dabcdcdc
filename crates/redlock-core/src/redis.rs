//! Locks on a Redis node, of which a driver needs to send only two commands.
//!
//! A lock is one plain string key per resource, exactly the resource's name unless a
//! [prefix](RedisBackend::key_prefix) is set: taken with `SET key value NX PX ttl`, extended and
//! released by comparing the value. That is the same on the wire as the Redlock libraries of other
//! languages, so that all of them exclude each other.
//!
//! # Scripts and native commands
//!
//! Some servers compare and change a key in one command. A server is asked for what it has by using it,
//! whatever its version says, and what worked is remembered:
//!
//! | operation | first | otherwise |
//! |---|---|---|
//! | acquire one resource | `SET … NX PX` | |
//! | acquire several | `MSETEX … NX PX` (Redis 8.4, Valkey 9.1; not in a cluster) | a script |
//! | release one resource | a script | `DELEX … IFEQ` (Redis 8.4), `DELIFEQ` (Valkey 9.0) |
//! | release several | a script | `DELEX` or `DELIFEQ`, one by one |
//! | extend one resource | a script | `PTTL`, then `SET … IFEQ … PX` (Redis 8.4, Valkey 8.1) |
//! | extend several | a script | not possible |
//! | inspect | `PTTL`, then `GET` | |
//!
//! Acquiring with a fencing token takes a script.
//!
//! A driver may make one call of the script of many [releases](Release) of one resource each. What that does not find is
//! released again by itself. Acquires are never joined so: behind a proxy that spreads keys over servers, all would
//! be taken at the first key's.
//!
//! An extension prefers the script, because only that can compare the remaining ttl, which must not be
//! shortened, in the same step. A server that allows no scripts and has no native command answers with
//! an error of the kind [`Unsupported`](BackendErrorKind::Unsupported) that names every way it refused.
//!
//! An inspection reads at two moments: when the key changes hands between them, it tells the new
//! holder with the remaining time of the one before.

use std::{
    borrow::Cow,
    error, fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    BackendError, BackendErrorKind, CLOCK_TOLERANCE, FencingToken, Holder, LockBackend, LockValue,
    NextToken, Place, Proposal, RawValue, Resources, Vote, Wake,
    capabilities::{Way, no_way},
    fencing::micros,
    hash_slot::{FENCES, fence_of},
    validity::whole_millis,
};
pub use crate::{
    capabilities::Capabilities,
    hash_slot::same_slot,
    shortcut::{Release, Shortcut},
};
pub use waiters::{Ear, Stand, Waiters};

mod waiters;

/// Sends two commands to one Redis server: where a driver for a client library starts.
///
/// A command is sent at most once, whatever happens to the connection. Every method is bounded in
/// time and, when it fails or is dropped, leaves open whether the command was executed. An error reply
/// becomes a [`BackendError`] by [`error_reply`].
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

    /// Any other command; its key, if it has one, is the second word, unless the server is no cluster.
    ///
    /// The default sends nothing, so that everything is done by scripts, except for inspections, which are
    /// not supported then.
    async fn command(&self, words: &[&str]) -> Result<Reply, BackendError> {
        let _ = words;
        let cause = "the client sends no other commands";
        Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed())
    }

    /// The server's address, without credentials; see [`LockBackend::name`].
    fn name(&self) -> Option<Cow<'_, str>> {
        None
    }
}

/// A reply to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// `OK`
    Ok,
    /// Nil, the null.
    Nil,
    /// An integer.
    Integer(i64),
    /// A bulk string, whatever is in it.
    Bulk(RawValue),
    /// An array.
    Array(Vec<Self>),
    /// Anything else, as it is to be shown in an error.
    Other(String),
}

impl Reply {
    /// True for `OK`, false for nil.
    ///
    /// # Errors
    ///
    /// For any other reply, which must not be taken for either.
    pub fn granted(self) -> Result<bool, BackendError> {
        match self {
            Self::Ok => Ok(true),
            Self::Nil => Ok(false),
            other => Err(other.unexpected()),
        }
    }

    /// The integer.
    ///
    /// # Errors
    ///
    /// For any other reply.
    pub fn integer(self) -> Result<i64, BackendError> {
        match self {
            Self::Integer(number) => Ok(number),
            other => Err(other.unexpected()),
        }
    }

    /// What a key carries; `None` for nil.
    ///
    /// # Errors
    ///
    /// For any other reply.
    pub fn value(self) -> Result<Option<RawValue>, BackendError> {
        match self {
            Self::Bulk(value) => Ok(Some(value)),
            Self::Nil => Ok(None),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn unexpected(&self) -> BackendError {
        let shown: String = format!("{self:?}").chars().take(100).collect();
        let cause = format!("unexpected reply: {shown}");
        BackendError::new(BackendErrorKind::Server, cause)
    }
}

/// The error that stands for an error reply, of which `text` is the whole line after the `-`, such as
/// `NOPERM this user has no permissions to run the 'eval' command`.
///
/// Nothing was executed, unless it is not a server's code in capitals that the text begins with but, for
/// example, a proxy's `upstream failure`. It is of the kind [`Unsupported`](BackendErrorKind::Unsupported) if
/// the server does not have the command or this form of it, or does not permit it, upon which another
/// way is tried.
pub fn error_reply(
    text: &str,
    source: impl Into<Box<dyn error::Error + Send + Sync>>,
) -> BackendError {
    const REFUSALS: [&str; 6] = [
        "NOPERM",
        "ERR unknown command",
        "ERR unsupported command",
        "ERR syntax error",
        // In a script, before it has written anything.
        "ERR ACL failure in script",
        "ERR The user executing the script can't run this command",
    ];
    let refused = REFUSALS.iter().any(|start| text.starts_with(start));
    let kind = if refused {
        BackendErrorKind::Unsupported
    } else {
        BackendErrorKind::Server
    };
    let code = text.split(' ').next().unwrap_or_default();
    let error = BackendError::new(kind, source);
    if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        error.not_executed()
    } else {
        error
    }
}

/// A script of the protocol.
pub(crate) struct Script {
    source: &'static str,
    pub(crate) sha1: LazyLock<String>,
}

/// A script in parts, the last of which is the script itself.
macro_rules! script {
    ($name:ident, $($part:literal),+) => {
        pub(crate) static $name: Script = Script {
            source: concat!($(include_str!($part)),+),
            sha1: LazyLock::new(|| {
                let source = concat!($(include_str!($part)),+);
                sha1_smol::Sha1::from(source).digest().to_string()
            }),
        };
    };
}

script!(ACQUIRE, "lua/acquire.lua");
script!(ACQUIRE_FENCED, "lua/acquire_fenced.lua");
script!(
    RELEASE,
    "lua/release_one.lua",
    "lua/pass_on.lua",
    "lua/release_each.lua",
    "lua/release.lua"
);
script!(EXTEND, "lua/extend.lua");
script!(GUARD, "lua/guard.lua");
script!(WAIT, "lua/pass_on.lua", "lua/quit.lua", "lua/wait.lua");
script!(LEAVE, "lua/pass_on.lua", "lua/quit.lua", "lua/leave.lua");

/// Where a server is remembered that has been seen, behind the key prefix.
const MARKER: &str = "redlock:guard";

/// Has a release touch nothing beside the keys, once the server has not permitted more: it would log every attempt.
pub(crate) const ALONE: &str = "alone";

/// Has every key be a lock by itself.
pub(crate) const EACH: &str = "each";

/// How to release, in the order in which it is tried: the script tells those who wait.
pub(crate) const RELEASES: [Way; 3] = [Way::ReleaseScript, Way::DelEx, Way::DelIfEq];

/// How to undo: whoever waits is left alone.
const UNDOES: [Way; 3] = [Way::UndoScript, Way::DelEx, Way::DelIfEq];

/// What PTTL answers where there is no key, and the script of those who wait where there is nothing to wait for.
const MISSING: i64 = -2;

/// What that script answers to whom it gives the turn.
const OURS: i64 = -1;

/// The [`LockBackend`] of everything that speaks Redis, over a [`RedisClient`].
#[derive(Clone, Debug)]
pub struct RedisBackend<C> {
    client: C,
    prefix: String,
    pub(crate) capabilities: Capabilities,
    waiters: Option<Arc<Waiters>>,
}

impl<C: RedisClient> RedisBackend<C> {
    /// A backend whose keys are exactly the resources' names, for a server of which nothing is known.
    pub fn new(client: C) -> Self {
        Self {
            client,
            prefix: String::new(),
            capabilities: Capabilities::default(),
            waiters: None,
        }
    }

    /// Puts a prefix before every resource's name to make its key.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What is known of the server, to share it with other connections to it.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Learns from releases who waits. Not for a cluster: those who wait for a key are in a list beside it.
    #[must_use]
    pub fn waiters(mut self, waiters: Arc<Waiters>) -> Self {
        self.waiters = Some(waiters);
        self
    }

    /// The client.
    pub const fn client(&self) -> &C {
        &self.client
    }

    /// The keys of these resources, in their order.
    pub fn keys<'a>(&'a self, resources: &'a Resources) -> impl Iterator<Item = Cow<'a, str>> {
        resources.iter().map(|name| self.key(name))
    }

    /// For how long the server behind the client's one connection has been known; for a
    /// [`RestartGuard`](crate::RestartGuard).
    ///
    /// It is known by what it says of its run and of its replication (`INFO`), which change when it restarts, takes
    /// a master's place, or becomes the master again after another has been, and by a key on the server,
    /// `redlock:guard` behind the key prefix, which remembers since when. A server that has lost that key is not
    /// known any more.
    ///
    /// # Errors
    ///
    /// When the server does not tell, does not permit it, or cannot write, as a replica cannot.
    pub async fn examine(&self) -> Result<Duration, BackendError> {
        let run = self.told("server", "run_id").await?;
        // Some proxies blank it, and then one run is like the next.
        let run = run.filter(|run| !run.is_empty()).ok_or_else(|| {
            let cause = "the server does not tell its run_id, which the restart guard needs";
            BackendError::new(BackendErrorKind::Unsupported, cause).not_executed()
        })?;
        let replication = self.told("replication", "master_replid").await?;
        let identity = format!("{run} {}", replication.unwrap_or_default());
        let age = self.run(&GUARD, &[self.key(MARKER)], &[&identity]).await?;
        let unexpected = || Reply::Integer(age).unexpected();
        let age = u64::try_from(age).map_err(|_| unexpected())?;
        Ok(Duration::from_millis(age))
    }

    /// A field of a section of `INFO`.
    async fn told(&self, section: &str, field: &str) -> Result<Option<String>, BackendError> {
        let reply = self.client.command(&["INFO", section]).await?;
        let Some(text) = reply.value()? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(text.as_bytes()).into_owned();
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| *name == field);
        Ok(found.map(|(_, value)| value.trim().to_owned()))
    }

    /// Stands in line for these resources under this name, a channel of this server's and a ticket, unless there is
    /// nothing to wait for.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or does not permit it.
    pub async fn stand_in_line(
        &self,
        resources: &Resources,
        waiter: &str,
        place: Place,
    ) -> Result<Stand, BackendError> {
        let keys: Vec<_> = self.keys(resources).collect();
        let place = match place {
            Place::First => "first",
            Place::Last => "last",
        };
        let answer = self.run(&WAIT, &keys, &[waiter, place]).await?;
        Ok(match answer {
            MISSING => Stand::No(Wake::Free),
            OURS => Stand::No(Wake::Turn),
            answer => Stand::InLine {
                left: Duration::from_millis(answer.unsigned_abs() / 2),
                first: answer % 2 != 0,
            },
        })
    }

    /// Stands in line no more, and passes on the turn.
    ///
    /// # Errors
    ///
    /// As [`stand_in_line`](Self::stand_in_line).
    pub async fn leave_line(
        &self,
        resources: &Resources,
        waiter: &str,
    ) -> Result<(), BackendError> {
        let keys: Vec<_> = self.keys(resources).collect();
        self.run(&LEAVE, &keys, &[waiter]).await.map(drop)
    }

    pub(crate) fn key<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.prefix.is_empty() {
            name.into()
        } else {
            format!("{}{name}", self.prefix).into()
        }
    }

    /// Does it in the first of these ways that the server has, the ones that it has refused before last.
    async fn by(
        &self,
        ways: &[Way],
        resources: &Resources,
        value: &LockValue,
        ttl: Option<Duration>,
    ) -> Result<Vote, BackendError> {
        let keys: Vec<_> = self.keys(resources).collect();
        let ttl = ttl.map(whole_millis).unwrap_or_default();
        let mut refusals = Vec::new();
        for way in self.capabilities.order(ways) {
            match self.ask(way, resources, &keys, value.as_str(), ttl).await {
                Err(error) if error.kind() == BackendErrorKind::Unsupported => {
                    refusals.push((way, error));
                }
                Err(error) => return Err(error),
                Ok(granted) => {
                    let refused = refusals.iter().map(|(way, _)| way);
                    self.capabilities.learn(way, refused);
                    return Ok(Vote::granted_if(granted));
                }
            }
        }
        Err(no_way(&refusals))
    }

    async fn ask(
        &self,
        way: Way,
        resources: &Resources,
        keys: &[Cow<'_, str>],
        value: &str,
        ttl: u64,
    ) -> Result<bool, BackendError> {
        let px = ttl.to_string();
        match way {
            Way::AcquireScript => Ok(self.run(&ACQUIRE, keys, &[value, &px]).await? == 1),
            Way::ReleaseScript | Way::UndoScript => {
                let args = [value, ALONE];
                let args = match way {
                    Way::UndoScript => &args,
                    _ => self.release_args(&args),
                };
                let reply = self.run(&RELEASE, keys, args).await?;
                Ok(self.released(resources, reply))
            }
            Way::ExtendScript => Ok(self.run(&EXTEND, keys, &[value, &px]).await? == 1),
            Way::MSetEx => {
                self.ensure_standalone().await?;
                let count = keys.len().to_string();
                let mut words = vec!["MSETEX", &count];
                words.extend(keys.iter().flat_map(|key| [key.as_ref(), value]));
                words.extend(["NX", "PX", &px]);
                Ok(self.client.command(&words).await?.integer()? == 1)
            }
            Way::DelEx | Way::DelIfEq => {
                let (mut all, mut some, mut failure) = (true, false, None);
                for key in keys {
                    // Never DELEX without its condition: that deletes whatever is there.
                    let words: &[&str] = match way {
                        Way::DelEx => &["DELEX", key, "IFEQ", value],
                        _ => &["DELIFEQ", key, value],
                    };
                    let reply = self.client.command(words).await;
                    match reply.and_then(Reply::integer) {
                        Ok(deleted) => {
                            some = true;
                            all &= deleted == 1;
                        }
                        // Another key may be fine all the same; what is unknown outweighs a refusal.
                        Err(error) => {
                            failure = failure
                                .filter(BackendError::may_have_happened)
                                .or(Some(error));
                        }
                    }
                }
                match failure {
                    None => Ok(all),
                    Some(refusal) if !some => Err(refusal),
                    Some(failure) => {
                        let cause = format!("of one of them: {failure}");
                        Err(BackendError::new(BackendErrorKind::Server, cause))
                    }
                }
            }
            Way::SetIfEq => {
                let key = &keys[0];
                let left = self.client.command(&["PTTL", key]).await?.integer()?;
                let longer = u64::try_from(left).is_ok_and(|left| left > ttl);
                let expiry: &[&str] = if longer { &["KEEPTTL"] } else { &["PX", &px] };
                let words = [&["SET", key, value, "IFEQ", value], expiry].concat();
                self.client.command(&words).await?.granted()
            }
        }
    }

    /// The last of these words is [`ALONE`], which is for those servers that want it.
    pub(crate) fn release_args<'a, 'b>(&self, words: &'a [&'b str]) -> &'a [&'b str] {
        &words[..words.len() - usize::from(!self.capabilities.is_alone())]
    }

    /// What the script of a release says: whether all is released. Takes note of who has the turn now.
    pub(crate) fn released(&self, resources: &Resources, reply: i64) -> bool {
        if reply & 1 != 0
            && let Some(waiters) = &self.waiters
        {
            waiters.note_awaited(resources);
        }
        if reply & 2 != 0 {
            self.capabilities.learn_alone();
        }
        usize::try_from(reply / 4) == Ok(resources.len())
    }

    /// An error of the kind `Unsupported` unless the server says that it is no cluster: Valkey 9.1
    /// executes MSETEX also for keys that belong to another member.
    async fn ensure_standalone(&self) -> Result<(), BackendError> {
        if self.capabilities.is_standalone() {
            return Ok(());
        }
        let cause = match self.client.command(&["CLUSTER", "INFO"]).await {
            Err(error) if error.to_string().contains("cluster support disabled") => {
                self.capabilities.learn_standalone();
                return Ok(());
            }
            Err(error) if error.may_have_happened() => return Err(error),
            Err(error) => error.to_string(),
            Ok(_) => "not in a cluster".to_owned(),
        };
        Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed())
    }

    async fn run(
        &self,
        script: &Script,
        keys: &[Cow<'_, str>],
        args: &[&str],
    ) -> Result<i64, BackendError> {
        match self.client.eval_sha(&script.sha1, keys, args).await {
            Ok(Some(reply)) => return Ok(reply),
            // Where EVALSHA is refused, EVAL need not be.
            Err(error) if error.kind() != BackendErrorKind::Unsupported => return Err(error),
            Ok(None) | Err(_) => {}
        }
        self.client.eval(script.source, keys, args).await
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
        if resources.len() > 1 {
            let ways = [Way::MSetEx, Way::AcquireScript];
            return self.by(&ways, resources, value, Some(ttl)).await;
        }
        let key = self.keys(resources).next().expect("one resource");
        let granted = self
            .client
            .set(&key, value.as_str(), whole_millis(ttl))
            .await?;
        Ok(Vote::granted_if(granted))
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let mut keys: Vec<_> = self.keys(resources).collect();
        let fences = resources.iter().map(|name| fence_of(&self.prefix, name));
        keys.extend(fences.map(Cow::Owned));
        let [px, token, keep_for, tolerance, lead] = [
            whole_millis(ttl),
            proposal.token().get(),
            proposal.keep_for().map(whole_millis).unwrap_or_default(),
            micros(CLOCK_TOLERANCE),
            micros(proposal.lead()),
        ]
        .map(|number| number.to_string());
        let args = [value.as_str(), &px, &token, &keep_for, &tolerance, &lead];
        let answer = self.run(&ACQUIRE_FENCED, &keys, &args).await?;
        let token = FencingToken::new(answer.unsigned_abs());
        match answer {
            0 => Ok(Vote::Refused),
            1 => Ok(Vote::Granted),
            2.. => Err(BackendError::token_refused(NextToken::Clock(token))),
            _ => Err(BackendError::token_refused(NextToken::Fence(token))),
        }
    }

    fn supports_fencing(&self) -> bool {
        true
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        // Only the script tells those who wait.
        self.by(&RELEASES, resources, value, None).await
    }

    async fn undo(&self, resources: &Resources, value: &LockValue) -> Result<Vote, BackendError> {
        self.by(&UNDOES, resources, value, None).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let ways: &[Way] = match resources.len() {
            1 => &[Way::ExtendScript, Way::SetIfEq],
            _ => &[Way::ExtendScript],
        };
        self.by(ways, resources, value, Some(ttl)).await
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        let key = self.key(resource);
        let left = self.client.command(&["PTTL", &key]).await?.integer()?;
        // What is set only now is not what was asked for, and its expiry is not known.
        if left == MISSING {
            return Ok(None);
        }
        let value = self.client.command(&["GET", &key]).await?.value()?;
        // Negative for a key without an expiry.
        let remaining = u64::try_from(left).ok().map(Duration::from_millis);
        Ok(value.map(|value| Holder::new(value, remaining)))
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        not_reserved(resources)
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.client.name()
    }
}

/// Why these cannot be locked: a name is that of a key which this library keeps beside those of locks.
///
/// # Errors
///
/// The reason.
pub fn not_reserved(resources: &Resources) -> Result<(), String> {
    let reserved = |name: &&String| {
        let ends = [":redlock:line", ":redlock:awaited"];
        [MARKER, FENCES].iter().any(|it| name.starts_with(it))
            || ends.iter().any(|end| name.ends_with(end))
    };
    match resources.iter().find(reserved) {
        None => Ok(()),
        Some(name) => Err(format!("{name} is a name that this library uses itself")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Mutex, PoisonError},
    };

    use super::*;

    /// A server that gives these replies to commands, one after the other.
    #[derive(Debug)]
    struct Scripted(Mutex<VecDeque<(&'static str, Reply)>>);

    #[async_trait]
    impl RedisClient for Scripted {
        async fn set(&self, _: &str, _: &str, _: u64) -> Result<bool, BackendError> {
            unreachable!("an inspection sets nothing")
        }

        async fn eval(&self, _: &str, _: &[Cow<'_, str>], _: &[&str]) -> Result<i64, BackendError> {
            unreachable!("an inspection runs no script")
        }

        async fn command(&self, words: &[&str]) -> Result<Reply, BackendError> {
            let mut replies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (expected, reply) = replies.pop_front().expect("no further command");
            assert_eq!(words.join(" "), expected);
            Ok(reply)
        }
    }

    async fn inspect<const N: usize>(
        replies: [(&'static str, Reply); N],
    ) -> Result<Option<Holder>, BackendError> {
        let client = Scripted(Mutex::new(replies.into()));
        let backend = RedisBackend::new(client).key_prefix("p:");
        let answer = backend.inspect("a").await;
        let left = backend.client().0.lock().unwrap().len();
        assert_eq!(left, 0, "commands that were not sent");
        answer
    }

    #[test]
    fn a_turn_lasts_as_long_in_the_scripts() {
        let moment = format!("minute, moment = 60000, {}\n", crate::TURN.as_millis());
        assert!(include_str!("lua/pass_on.lua").contains(&moment));
    }

    #[test]
    fn keys_beside_those_of_locks_cannot_be_locked() {
        let check = |name: &str| not_reserved(&Resources::new(["a", name]).expect("names"));
        for name in [
            "b",
            "redlock",
            "redlock:x",
            "redlock:line",
            "a:redlock:lines",
        ] {
            assert_eq!(check(name), Ok(()));
        }
        let fence = fence_of("", "a");
        for name in [
            "a:redlock:line",
            "b:redlock:awaited",
            "redlock:guard",
            &fence,
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    fn value() -> Reply {
        Reply::Bulk("x".into())
    }

    #[tokio::test]
    async fn an_inspection_reads_the_expiry_and_then_the_value() {
        let held = [("PTTL p:a", Reply::Integer(1500)), ("GET p:a", value())];
        let holder = Holder::new("x", Duration::from_millis(1500));
        assert_eq!(inspect(held).await.unwrap(), Some(holder));

        let endless = [("PTTL p:a", Reply::Integer(-1)), ("GET p:a", value())];
        let holder = Holder::new("x", None);
        assert_eq!(inspect(endless).await.unwrap(), Some(holder));
    }

    #[tokio::test]
    async fn what_is_missing_at_either_moment_is_free() {
        let missing = [("PTTL p:a", Reply::Integer(-2))];
        assert_eq!(inspect(missing).await.unwrap(), None);

        let gone = [("PTTL p:a", Reply::Integer(5)), ("GET p:a", Reply::Nil)];
        assert_eq!(inspect(gone).await.unwrap(), None);
    }

    #[tokio::test]
    async fn no_reply_is_taken_for_another() {
        let bulk = || Reply::Bulk("OK".into());
        assert!(bulk().granted().is_err());
        assert!(bulk().integer().is_err());
        for reply in [Reply::Ok, Reply::Integer(1), Reply::Other("x".into())] {
            assert!(reply.clone().value().is_err());
            let answers = [("PTTL p:a", Reply::Integer(5)), ("GET p:a", reply)];
            assert!(inspect(answers).await.is_err());
        }
        let error = Reply::Bulk("0123456789".into()).integer().unwrap_err();
        let shown = error.to_string();
        assert_eq!(
            shown,
            "server error: unexpected reply: Bulk(RawValue(0123…))"
        );
    }
}
