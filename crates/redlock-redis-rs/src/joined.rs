//! Commands that are sent together, and who is told the reply to each.

use std::{
    collections::VecDeque,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use redis::{Cmd, ErrorKind, Pipeline, RedisResult, Value};
use redlock_core::{
    BackendError,
    redis::{Release, Reply},
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    begun::{Answers, Begun},
    connection::{command, reply},
};

/// A command that has waited for so long is not sent any more: no vote is awaited longer, unless somebody sets it so.
const STALE: Duration = Duration::from_secs(5);

/// A command that waits to be sent, or for its reply.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) done: Done,
    pub(crate) since: Instant,
}

pub(crate) enum Command {
    Release(Release),
    Other(Cmd),
    /// It is on its way.
    Sent,
    /// Nothing is sent, now or ever.
    Forgotten,
}

/// Who is told the reply.
pub(crate) enum Done {
    Begun(Begun),
    Awaited(oneshot::Sender<RedisResult<Value>>),
    /// Nobody any more.
    Told,
}

/// Requests that are sent together.
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) requests: VecDeque<Request>,
    /// Who answers for those that were begun.
    pub(crate) by: Option<Arc<dyn Answers>>,
}

impl Request {
    fn is_stale(&self, now: Instant) -> bool {
        match &self.done {
            Done::Begun(_) => now - self.since > STALE,
            Done::Awaited(sender) => sender.is_closed(),
            Done::Told => true,
        }
    }

    fn tell(&mut self, by: Option<&Arc<dyn Answers>>, answer: RedisResult<Value>) {
        if let Done::Awaited(_) = self.done
            && let Done::Awaited(sender) = mem::replace(&mut self.done, Done::Told)
        {
            drop(sender.send(answer));
        } else {
            self.tell_reply(by, Some(reply(answer)));
        }
    }

    /// `None` if the command was not sent and never will be.
    fn tell_reply(
        &mut self,
        by: Option<&Arc<dyn Answers>>,
        reply: Option<Result<Reply, BackendError>>,
    ) {
        if let (Done::Begun(begun), Some(by)) = (&mut self.done, by) {
            // One who panics must not take the replies of the others along.
            let answered = || by.answer(begun, self.since, reply);
            if let Ok(Some(rest)) = catch_unwind(AssertUnwindSafe(answered))
                && let Done::Begun(begun) = mem::replace(&mut self.done, Done::Told)
            {
                Arc::clone(by).go_on(begun, rest);
            }
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
    /// Packs what is to be sent; releases are one command, ahead of the others.
    pub(crate) fn pack(&mut self, commands: &mut Pipeline, now: Instant) {
        for request in &mut self.requests {
            if request.is_stale(now) {
                request.command = Command::Forgotten;
            }
        }
        if self.releases().next().is_some() {
            commands.add_command(command(Release::command(self.releases())));
        }
        for request in &mut self.requests {
            if let Command::Other(_) = request.command
                && let Command::Other(command) = mem::replace(&mut request.command, Command::Sent)
            {
                commands.add_command(command);
            }
        }
    }

    fn releases(&self) -> impl Iterator<Item = &Release> + Clone {
        self.requests
            .iter()
            .filter_map(|request| match &request.command {
                Command::Release(release) => Some(release),
                _ => None,
            })
    }

    /// Tells each that its command was not sent, and never will be.
    pub(crate) fn forget(mut self) {
        for request in &mut self.requests {
            request.command = Command::Forgotten;
        }
        self.tell(Ok(Vec::new()));
    }

    /// Tells each the reply to its command; nothing is left.
    pub(crate) fn tell(&mut self, answers: RedisResult<Vec<Value>>) {
        let (together, mut commands) = (self.releases().count(), 0);
        for request in &self.requests {
            commands += usize::from(matches!(request.command, Command::Sent));
        }
        commands += usize::from(together > 0);
        let wrong = (ErrorKind::UnexpectedReturnType, "wrong number of replies");
        let mut answers = match answers {
            Ok(answers) if answers.len() == commands => Ok(answers.into_iter()),
            answers => Err(answers.err().unwrap_or_else(|| wrong.into())),
        };
        let mut answer = || match &mut answers {
            Ok(answers) => answers.next().unwrap_or(Value::Nil).extract_error(),
            Err(error) => Err(error.clone()),
        };
        let mut releases = (together > 0).then(|| Release::each(together, reply(answer())));
        let by = self.by.take();
        for request in &mut self.requests {
            match request.command {
                Command::Release(_) => {
                    let reply = releases.as_mut().and_then(Iterator::next);
                    request.tell_reply(by.as_ref(), reply);
                }
                Command::Sent => request.tell(by.as_ref(), answer()),
                Command::Forgotten | Command::Other(_) => request.tell_reply(by.as_ref(), None),
            }
        }
        self.requests.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::begun::{GoesOn, tests::begun};

    type Answer = Option<Result<Reply, BackendError>>;

    /// Hears all replies.
    struct Hears(Sender<Answer>);

    impl Answers for Hears {
        fn answer(&self, _: &mut Begun, _: Instant, reply: Answer) -> Option<GoesOn> {
            self.0.send(reply).expect("heard");
            None
        }

        fn go_on(self: Arc<Self>, _: Begun, _: GoesOn) {}
    }

    fn request() -> Request {
        let (release, begun) = begun(redlock_core::Reply::new().0);
        let (command, done) = (Command::Release(release), Done::Begun(begun));
        let since = Instant::now();
        Request {
            command,
            done,
            since,
        }
    }

    /// What a command and two releases are told of so many replies, of which the first is to the releases.
    fn told(first: Value, count: usize) -> Vec<Answer> {
        let (sender, heard) = channel();
        let other = || Request {
            command: Command::Other(Cmd::new()),
            ..request()
        };
        let by: Arc<dyn Answers> = Arc::new(Hears(sender));
        let mut joined = Joined {
            requests: [other(), request(), request()].into(),
            by: Some(by),
        };
        let mut commands = Pipeline::new();
        joined.pack(&mut commands, Instant::now());
        assert_eq!(commands.len(), 2);
        let mut replies = vec![first, Value::Okay, Value::Okay];
        replies.truncate(count);
        joined.tell(Ok(replies));
        heard.try_iter().collect()
    }

    #[test]
    fn no_release_gets_ahead_of_what_is_awaited() {
        let (since, release) = (Instant::now(), request);
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
        let [Some(Ok(other)), Some(Ok(one)), Some(Ok(another))] = &told(released(), 2)[..] else {
            panic!("three were to be told");
        };
        let each = [other, one, another];
        assert_eq!(each, [&Reply::Ok, &Reply::Integer(4), &Reply::Nil]);
        for count in [0, 1, 3] {
            let told = told(released(), count);
            assert_eq!(told.len(), 3);
            assert!(told.iter().all(|told| matches!(told, Some(Err(_)))));
        }
    }

    #[test]
    fn what_is_wrong_of_the_releases_is_not_of_the_others() {
        let wrong = told(Value::Int(4), 2);
        let [Some(Ok(Reply::Ok)), Some(Err(_)), Some(Err(_))] = &wrong[..] else {
            panic!("{wrong:?}");
        };
    }
}
