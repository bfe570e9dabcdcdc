//! The one command that mostly does an operation, for a driver that sends it without a future.

use std::{borrow::Cow, iter, time::Duration};

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
    /// With others.
    Joined,
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
    pub fn command<'a>(
        releases: impl Iterator<Item = &'a Self> + Clone,
    ) -> impl Iterator<Item = Cow<'a, str>> + Clone {
        let count = releases.clone().count();
        let head = ["EVALSHA".into(), RELEASE.sha1.as_str().into()];
        let keys = releases.clone().map(|release| release.key.as_str());
        let mut values = releases.map(|release| release.value.as_str());
        let first = values.next();
        let each = (count > 1).then_some(EACH);
        let tail = keys.chain(first).chain(each).chain(values);
        let head = head.into_iter().chain([Cow::Owned(count.to_string())]);
        head.chain(tail.map(Cow::Borrowed))
    }

    /// What the reply to the command of so many says of each: nil for one that has to be done by itself, and the same
    /// for all upon an error.
    pub fn each(
        count: usize,
        reply: Result<Reply, BackendError>,
    ) -> impl Iterator<Item = Result<Reply, BackendError>> {
        let (of_each, of_all) = match reply {
            reply if count == 1 => (Vec::new(), Some(reply)),
            Ok(Reply::Array(replies)) if replies.len() == count => (replies, None),
            Ok(Reply::Integer(sum)) if usize::try_from(sum) == Ok(4 * count) => {
                (Vec::new(), Some(Ok(Reply::Integer(4))))
            }
            Ok(other) => (Vec::new(), Some(Err(other.unexpected()))),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        let of_all = of_all
            .into_iter()
            .flat_map(move |of_all| iter::repeat_n(of_all, count));
        of_each.into_iter().map(Ok).chain(of_all)
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
            [name] if way == Way::ReleaseScript && self.capabilities.may_join() => {
                let (key, value) = (self.key(name).into_owned(), value.clone());
                Some((Shortcut(Command::Joined), Release { key, value }))
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
            (Command::Joined, Ok(Reply::Nil)) => return Ok(None),
            (Command::Joined, Err(error)) if error.is_refusal() => {
                // For good, other than what a server says that is loading. Before Redis 7 a script wraps it.
                let text = error.to_string();
                if error.kind() == BackendErrorKind::Unsupported
                    || text.contains("can't run this command")
                    || text.contains("CROSSSLOT")
                {
                    self.capabilities.learn_apart();
                }
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
            (Command::Joined, reply) => self.released(resources, reply?.integer()?),
        };
        Ok(Some(Vote::granted_if(granted)))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::redis::error_reply;

    /// Never asked.
    #[derive(Debug)]
    struct Nobody;

    #[async_trait]
    impl RedisClient for Nobody {
        async fn set(&self, _: &str, _: &str, _: u64) -> Result<bool, BackendError> {
            unreachable!()
        }

        async fn eval(&self, _: &str, _: &[Cow<'_, str>], _: &[&str]) -> Result<i64, BackendError> {
            unreachable!()
        }
    }

    #[test]
    fn each_gets_its_own_part_of_the_reply() {
        let replies = vec![Reply::Integer(4), Reply::Nil];
        let each = Release::each(2, Ok(Reply::Array(replies.clone())));
        assert_eq!(each.map(Result::unwrap).collect::<Vec<_>>(), replies);
        for (all, sum) in [(1, 4), (3, 12)] {
            let each = Release::each(all, Ok(Reply::Integer(sum)));
            let each: Vec<_> = each.map(Result::unwrap).collect();
            assert_eq!(each, vec![Reply::Integer(4); all]);
        }
    }

    #[test]
    fn a_refusal_leaves_each_to_itself_and_may_be_for_good() {
        for (refusal, joins) in [
            ("LOADING Redis is loading the dataset", true),
            ("CROSSSLOT Keys", false),
            (
                "ERR Error running script: @user_script:1: The user executing the script can't run this command",
                false,
            ),
            ("NOPERM no", false),
        ] {
            let backend = RedisBackend::new(Nobody);
            let resources = Resources::new(["a"]).expect("a name");
            let joinable = || backend.joinable_release(&resources, &LockValue::random());
            let (shortcut, _) = joinable().expect("nothing is known of the server");
            for reply in Release::each(3, Err(error_reply(refusal, refusal))) {
                let vote = backend.vote(shortcut, &resources, reply);
                assert_eq!(vote.expect("no error"), None, "{refusal}");
            }
            assert_eq!(joinable().is_some(), joins, "{refusal}");
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
            Ok(Reply::Integer(9)),
            Ok(Reply::Integer(12)),
            Ok(Reply::Nil),
            Err(error_reply("upstream failure", "")),
            Err(lost.clone()),
            Err(lost.not_executed()),
        ];
        for reply in odd {
            let each: Vec<_> = Release::each(2, reply).collect();
            assert!(
                each.len() == 2 && each.iter().all(Result::is_err),
                "{each:?}"
            );
        }
    }
}
