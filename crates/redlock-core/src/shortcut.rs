//! The one command that mostly does an operation, for a driver that sends it without a future.

use std::{borrow::Cow, time::Duration};

use crate::{
    BackendError, BackendErrorKind, LockValue, Resources, Vote,
    capabilities::Way,
    redis::{ALONE, EACH, RELEASE, RELEASES, RedisBackend, RedisClient, Reply},
    validity::whole_millis,
};

/// How a command that was sent alone answers for a whole operation.
///
/// It is the first command that the [`RedisBackend`] itself would send, and the only one unless the server does not
/// have it.
#[derive(Clone, Copy, Debug)]
pub struct Shortcut(Command);

#[derive(Clone, Copy, Debug)]
enum Command {
    Set,
    Release(Way),
}

/// A release of one key that can be one command with those of other keys, which costs the server half as much.
#[derive(Debug)]
pub struct Release {
    key: String,
    value: LockValue,
}

impl Release {
    /// The command that does all of these, of which there is one at least.
    ///
    /// The reply to one alone is its own. That to several is an array with the reply of each in their order, nil
    /// for one that has to be done by itself; if it is an error, all have to.
    pub fn command(releases: &[Self]) -> Vec<Cow<'_, str>> {
        let count = releases.len().to_string().into();
        let head = ["EVALSHA".into(), RELEASE.sha1.as_str().into(), count];
        let keys = releases.iter().map(|release| release.key.as_str());
        let mut values = releases.iter().map(|release| release.value.as_str());
        let first = values.next();
        let each = (releases.len() > 1).then_some(EACH);
        let tail = keys.chain(first).chain(each).chain(values);
        head.into_iter().chain(tail.map(Cow::Borrowed)).collect()
    }
}

impl<C: RedisClient> RedisBackend<C> {
    /// Has the command `sent` that acquires; `None` where one command may not do.
    pub fn acquire_at_once<T>(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        sent: impl FnOnce(Shortcut, &[&str]) -> T,
    ) -> Option<T> {
        let [name] = &resources[..] else {
            return None;
        };
        let px = whole_millis(ttl).to_string();
        let words = ["SET", &self.key(name), value.as_str(), "NX", "PX", &px];
        Some(sent(Shortcut(Command::Set), &words))
    }

    /// A release that may be joined with others; `None` where it may not.
    pub fn joinable_release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Option<(Shortcut, Release)> {
        let way = self.capabilities.order(&RELEASES).next()?;
        match &resources[..] {
            [name] if way == Way::ReleaseScript && !self.capabilities.is_alone() => {
                let (key, value) = (self.key(name).into_owned(), value.clone());
                Some((Shortcut(Command::Release(way)), Release { key, value }))
            }
            _ => None,
        }
    }

    /// Has the command `sent` that releases; `None` where one command may not do.
    pub fn release_at_once<T>(
        &self,
        resources: &Resources,
        value: &LockValue,
        sent: impl FnOnce(Shortcut, &[&str]) -> T,
    ) -> Option<T> {
        let [name] = &resources[..] else {
            return None;
        };
        let way = self.capabilities.order(&RELEASES).next()?;
        let (key, value) = (self.key(name), value.as_str());
        let by_script = ["EVALSHA", &RELEASE.sha1, "1", &key, value, ALONE];
        // Never DELEX without its condition: that deletes whatever is there.
        let words: &[&str] = match way {
            Way::DelEx => &["DELEX", &key, "IFEQ", value],
            Way::DelIfEq => &["DELIFEQ", &key, value],
            _ => self.release_args(&by_script),
        };
        Some(sent(Shortcut(Command::Release(way)), words))
    }

    /// What the reply to the command says; `None` if it was refused as a command, or not done together with others,
    /// so that the operation has to be done in another way.
    ///
    /// # Errors
    ///
    /// As the operation itself; the error `NOSCRIPT` is for the driver to tell.
    pub fn vote(
        &self,
        shortcut: Shortcut,
        resources: &Resources,
        reply: Result<Reply, BackendError>,
    ) -> Result<Option<Vote>, BackendError> {
        let granted = match (shortcut.0, reply) {
            (Command::Set, reply) => reply?.granted()?,
            (Command::Release(_), Err(error)) if error.kind() == BackendErrorKind::Unsupported => {
                return Ok(None);
            }
            (Command::Release(_), Ok(Reply::Nil)) => return Ok(None),
            (Command::Release(way), reply) => {
                let reply = reply?.integer()?;
                self.capabilities.learn(way, []);
                match way {
                    Way::ReleaseScript => self.released(resources, reply),
                    _ => reply == 1,
                }
            }
        };
        Ok(Some(Vote::granted_if(granted)))
    }
}
