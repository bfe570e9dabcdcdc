//! The one command that mostly does an operation, for a driver that sends it without a future.

use std::time::Duration;

use crate::{
    BackendError, BackendErrorKind, LockValue, Resources, Vote,
    capabilities::Way,
    redis::{ALONE, RELEASE, RELEASES, RedisBackend, RedisClient, Reply},
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

    /// What the reply to the command says; `None` if it was refused as a command, so that the operation has to be
    /// done in another way.
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
