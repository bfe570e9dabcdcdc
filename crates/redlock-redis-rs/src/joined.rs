//! Commands that are sent together, and who is told the reply to each.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use redlock_core::redis::Release;
use tokio::{sync::oneshot, time::Instant};

use crate::connection::{classify, command};

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

/// Who is told the reply; `None` if the command was not sent and never will be.
pub(crate) enum Done {
    Told(Box<dyn FnOnce(Option<RedisResult<Value>>) + Send>),
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
    /// For so many is the reply to the first command, which is their own only if it is one.
    together: usize,
    pub(crate) done: Vec<Done>,
}

impl Done {
    pub(crate) fn tell(self, answer: Option<RedisResult<Value>>) {
        match self {
            // One who panics must not take the replies of the others along.
            Self::Told(done) => drop(catch_unwind(AssertUnwindSafe(|| done(answer)))),
            Self::Awaited(sender) => drop(answer.map(|answer| sender.send(answer))),
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

impl Joined {
    /// Of these requests; releases are one command, ahead of the others.
    pub(crate) fn new(requests: impl ExactSizeIterator<Item = Request>, now: Instant) -> Self {
        let count = requests.len();
        let (mut releases, mut done) = (Vec::new(), Vec::with_capacity(count));
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
        done.append(&mut behind);
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
                if self.together > 1 {
                    let first = answers.next().into_iter();
                    let each = first.flat_map(|answer| each(answer, self.together));
                    each.zip(done.by_ref())
                        .for_each(|(answer, done)| done.tell(Some(answer)));
                }
                done.zip(answers)
                    .for_each(|(done, answer)| done.tell(Some(Ok(answer))));
            }
            answers => {
                let error = answers
                    .err()
                    .unwrap_or_else(|| unexpected("wrong number of replies"));
                done.for_each(|done| done.tell(Some(Err(error.clone()))));
            }
        }
    }
}

/// The reply to each of so many releases by one command: nil for one that has to be done by itself.
fn each(answer: Value, count: usize) -> Vec<RedisResult<Value>> {
    let error = match answer {
        Value::Array(replies) if replies.len() == count => {
            return replies.into_iter().map(Ok).collect();
        }
        Value::ServerError(error) => error.into(),
        _ => unexpected("not a reply for each"),
    };
    if classify(error.clone()).may_have_happened() {
        vec![Err(error); count]
    } else {
        vec![Ok(Value::Nil); count]
    }
}

fn unexpected(cause: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, cause).into()
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    /// What two who release and a third are told of these replies.
    fn told(replies: &[&str]) -> Vec<Option<RedisResult<Value>>> {
        let (done, heard): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (sender, receiver) = oneshot::channel();
                (Done::Awaited(sender), receiver)
            })
            .unzip();
        let parsed = |reply: &&str| parse_redis_value(reply.as_bytes()).expect("RESP");
        let told = Told { together: 2, done };
        told.tell(Ok(replies.iter().map(parsed).collect()));
        let heard = heard.into_iter();
        heard.map(|mut heard| heard.try_recv().ok()).collect()
    }

    #[test]
    fn each_gets_its_own_part_of_the_reply() {
        let told = told(&["*2\r\n:4\r\n$-1\r\n", "+OK\r\n"]);
        let each = [Value::Int(4), Value::Nil, Value::Okay];
        assert_eq!(told, each.map(|value| Some(Ok(value))));
    }

    #[test]
    fn a_refusal_leaves_each_to_itself() {
        for refusal in ["NOSCRIPT No matching script.", "CROSSSLOT Keys in request"] {
            let told = told(&[&format!("-{refusal}\r\n"), "+OK\r\n"]);
            let each = [Value::Nil, Value::Nil, Value::Okay];
            assert_eq!(told, each.map(|value| Some(Ok(value))));
        }
    }

    #[test]
    fn what_is_no_reply_to_all_is_none_to_any() {
        let odd = [
            "*1\r\n:4\r\n",
            "*3\r\n:4\r\n:4\r\n:4\r\n",
            ":4\r\n",
            "$-1\r\n",
            "-upstream failure\r\n",
        ];
        for reply in odd {
            let [one, other, third] = &told(&[reply, "+OK\r\n"])[..] else {
                panic!("three were to be told");
            };
            for released in [one, other] {
                assert!(matches!(released, Some(Err(_))), "{reply}: {released:?}");
            }
            assert_eq!(*third, Some(Ok(Value::Okay)));
        }
        for replies in [&[][..], &["*2\r\n:4\r\n:4\r\n"], &["+OK\r\n"; 3]] {
            let told = told(replies);
            assert!(told.iter().all(|told| matches!(told, Some(Err(_)))));
        }
    }
}
