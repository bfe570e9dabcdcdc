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
/// It is the first command that the [`RedisBackend`] itself would send, or a [`Release`] with others, and the only one
/// unless the server does not have it.
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
    /// The command that does all of these: one at least, and no more than a server may be busy with at a time; Lua
    /// takes some thousand.
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

    /// What the reply to the command of so many says of each: nil for one that has to be done by itself.
    pub fn each(
        count: usize,
        reply: Result<Reply, BackendError>,
    ) -> Vec<Result<Reply, BackendError>> {
        let of_each = match reply {
            reply if count == 1 => return vec![reply],
            Ok(Reply::Array(replies)) if replies.len() == count => {
                return replies.into_iter().map(Ok).collect();
            }
            Ok(other) => Err(other.unexpected()),
            Err(error) if error.is_refusal() => Ok(Reply::Nil),
            Err(error) => Err(error),
        };
        vec![of_each; count]
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
            [name]
                if way == Way::ReleaseScript
                    && self.capabilities.may_join()
                    && !self.capabilities.is_alone() =>
            {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::error_reply;

    #[test]
    fn each_gets_its_own_part_of_the_reply() {
        let replies = vec![Reply::Integer(4), Reply::Nil];
        let each = Release::each(2, Ok(Reply::Array(replies.clone())));
        assert_eq!(
            each.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
            replies
        );
        let alone = Release::each(1, Ok(Reply::Integer(4))).remove(0);
        assert_eq!(alone.unwrap(), Reply::Integer(4));
    }

    #[test]
    fn a_refusal_leaves_each_to_itself() {
        for refusal in [
            "NOSCRIPT No matching script.",
            "CROSSSLOT Keys",
            "NOPERM no",
        ] {
            for reply in Release::each(3, Err(error_reply(refusal, refusal))) {
                assert_eq!(reply.unwrap(), Reply::Nil, "{refusal}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_to_all_is_none_to_any() {
        let replies = |count| Ok(Reply::Array(vec![Reply::Integer(4); count]));
        let lost = BackendError::new(BackendErrorKind::Unreachable, "gone");
        let odd = [
            replies(0),
            replies(1),
            replies(3),
            Ok(Reply::Integer(4)),
            Ok(Reply::Nil),
            Err(error_reply("upstream failure", "")),
            Err(lost.clone()),
            Err(lost.not_executed()),
        ];
        for reply in odd {
            let each = Release::each(2, reply);
            assert!(
                each.len() == 2 && each.iter().all(Result::is_err),
                "{each:?}"
            );
        }
    }
}
