//! Commands that are sent together, and who is told the reply to each.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use redis::{Cmd, ErrorKind, Pipeline, RedisResult, Value};
use redlock_core::{
    BackendError,
    redis::{Release, Reply},
};
use tokio::{sync::oneshot, time::Instant};

use crate::connection::{command, reply};

/// A command that has waited for so long is not sent any more: no vote is awaited longer, unless somebody sets it so.
const STALE: Duration = Duration::from_secs(5);

/// A command that waits to be sent.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) done: Done,
    pub(crate) since: Instant,
}

pub(crate) enum Command {
    Release(Release),
    Other(Cmd),
}

type Tell = dyn FnOnce(Option<Result<Reply, BackendError>>) + Send;

/// Who is told the reply; `None` if the command was not sent and never will be.
pub(crate) enum Done {
    Told(Box<Tell>),
    Awaited(oneshot::Sender<RedisResult<Value>>),
}

/// Commands that are sent together.
pub(crate) struct Joined {
    pub(crate) commands: Pipeline,
    pub(crate) told: Told,
    /// Those of which nothing is sent.
    pub(crate) forgotten: Vec<Done>,
}

/// Who is told the replies to commands that were sent together.
#[derive(Default)]
pub(crate) struct Told {
    /// The reply to the first command is that to so many releases, the first of all.
    together: usize,
    pub(crate) done: Vec<Done>,
}

impl Done {
    pub(crate) fn tell(self, answer: Option<RedisResult<Value>>) {
        match self {
            Self::Told(_) => self.tell_reply(answer.map(reply)),
            Self::Awaited(sender) => drop(answer.map(|answer| sender.send(answer))),
        }
    }

    fn tell_reply(self, reply: Option<Result<Reply, BackendError>>) {
        if let Self::Told(done) = self {
            // One who panics must not take the replies of the others along.
            drop(catch_unwind(AssertUnwindSafe(|| done(reply))));
        }
    }
}

impl Request {
    fn is_stale(&self, now: Instant) -> bool {
        match &self.done {
            Done::Told(_) => now - self.since > STALE,
            Done::Awaited(sender) => sender.is_closed(),
        }
    }
}

/// How many of these, from the first on, may be sent together: no release gets ahead of a command that is awaited,
/// which may belong to the one before.
pub(crate) fn joinable<'a>(requests: impl Iterator<Item = &'a Request>) -> usize {
    let mut awaited = false;
    let may = |request: &&Request| {
        awaited |= matches!(request.done, Done::Awaited(_));
        !(awaited && matches!(request.command, Command::Release(_)))
    };
    requests.take_while(may).count()
}

impl Joined {
    /// Of these requests; releases are one command, ahead of the others.
    pub(crate) fn new(requests: impl ExactSizeIterator<Item = Request>, now: Instant) -> Self {
        let count = requests.len();
        let (mut releases, mut done) = (Vec::new(), Vec::new());
        let (mut others, mut behind) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut forgotten = Vec::new();
        for request in requests {
            match request.command {
                _ if request.is_stale(now) => forgotten.push(request.done),
                Command::Release(release) => {
                    releases.push(release);
                    done.push(request.done);
                }
                Command::Other(command) => {
                    others.push(command);
                    behind.push(request.done);
                }
            }
        }
        if done.is_empty() {
            done = behind;
        } else {
            done.append(&mut behind);
        }
        let together = releases.len();
        let mut commands = Pipeline::with_capacity(others.len() + 1);
        if together > 0 {
            commands.add_command(command(&Release::command(&releases)));
        }
        for other in others {
            commands.add_command(other);
        }
        Self {
            commands,
            told: Told { together, done },
            forgotten,
        }
    }
}

impl Told {
    /// Tells each the reply to its command.
    pub(crate) fn tell(self, answers: RedisResult<Vec<Value>>) {
        let commands = self.done.len() - self.together.saturating_sub(1);
        let mut done = self.done.into_iter();
        match answers {
            Ok(answers) if answers.len() == commands => {
                let mut answers = answers.into_iter();
                if self.together > 0
                    && let Some(first) = answers.next()
                {
                    Release::each(self.together, reply(Ok(first)))
                        .into_iter()
                        .zip(done.by_ref())
                        .for_each(|(reply, done)| done.tell_reply(Some(reply)));
                }
                done.zip(answers)
                    .for_each(|(done, answer)| done.tell(Some(Ok(answer))));
            }
            answers => {
                let wrong = (ErrorKind::UnexpectedReturnType, "wrong number of replies");
                let error = answers.err().unwrap_or_else(|| wrong.into());
                done.for_each(|done| done.tell(Some(Err(error.clone()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use redlock_core::{LockValue, Resources};

    use super::*;
    use crate::{connection::Protocol, line::tests::Slow};

    /// What two who release and a third are told of so many replies, of which the first is to the releases.
    fn told(first: Value, count: usize) -> Vec<Option<Result<Reply, BackendError>>> {
        let (sender, heard) = channel();
        let done = (0..3).map(|_| {
            let sender = sender.clone();
            Done::Told(Box::new(move |reply| sender.send(reply).expect("heard")))
        });
        let done = done.collect();
        let mut replies = vec![first, Value::Okay, Value::Okay];
        replies.truncate(count);
        Told { together: 2, done }.tell(Ok(replies));
        heard.try_iter().collect()
    }

    #[test]
    fn no_release_gets_ahead_of_what_is_awaited() {
        let (since, resources) = (Instant::now(), Resources::new(["a"]).expect("a name"));
        let backend = Protocol::default().over(Slow(Duration::ZERO));
        let release = || {
            let joinable = backend.joinable_release(&resources, &LockValue::random());
            let (_, release) = joinable.expect("nothing is known of the server");
            let (command, done) = (Command::Release(release), Done::Told(Box::new(drop)));
            Request {
                command,
                done,
                since,
            }
        };
        let awaited = || {
            let (command, done) = (
                Command::Other(Cmd::new()),
                Done::Awaited(oneshot::channel().0),
            );
            Request {
                command,
                done,
                since,
            }
        };
        let count = |requests: &[Request]| joinable(requests.iter());
        assert_eq!(count(&[release(), release(), awaited(), awaited()]), 4);
        assert_eq!(count(&[release(), awaited(), release(), awaited()]), 2);
        assert_eq!(count(&[awaited(), release()]), 1);
    }

    #[test]
    fn each_is_told_its_own_reply() {
        let released = || Value::Array(vec![Value::Int(4), Value::Nil]);
        let [Some(Ok(one)), Some(Ok(other)), Some(Ok(third))] = &told(released(), 2)[..] else {
            panic!("three were to be told");
        };
        let each = [one, other, third];
        assert_eq!(each, [&Reply::Integer(4), &Reply::Nil, &Reply::Ok]);
        for count in [0, 1, 3] {
            let told = told(released(), count);
            assert_eq!(told.len(), 3);
            assert!(told.iter().all(|told| matches!(told, Some(Err(_)))));
        }
    }

    #[test]
    fn what_is_wrong_of_the_releases_is_not_of_the_others() {
        let wrong = told(Value::Int(4), 2);
        let [Some(Err(_)), Some(Err(_)), Some(Ok(Reply::Ok))] = &wrong[..] else {
            panic!("{wrong:?}");
        };
    }
}
