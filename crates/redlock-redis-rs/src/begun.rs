//! Operations that nobody awaits: each goes on by itself, and its answer goes to whoever it is for.

use std::{sync::Arc, time::Duration};

use redlock_core::{
    BackendError, Instant, LockValue, Reply, Resources, Vote,
    redis::{self as protocol, Shortcut},
};
use tokio::runtime::Handle;

use crate::{
    connection::{command, is_noscript},
    joined::Command,
    line::Line,
    node::{Node, Operation, Source},
};

/// An operation under way that nobody awaits.
pub(crate) struct Begun {
    pub(crate) shortcut: Shortcut,
    /// Of an acquire; none of a release.
    pub(crate) ttl: Option<Duration>,
    pub(crate) resources: Resources,
    pub(crate) value: LockValue,
    /// Until it is answered.
    pub(crate) reply: Option<Reply>,
}

impl Begun {
    fn operation(&self) -> Operation {
        match self.ttl {
            Some(ttl) => Operation::Acquire(ttl, None),
            None => Operation::Release,
        }
    }

    pub(crate) fn answer(&mut self, answer: Result<Vote, BackendError>) {
        if let Some(reply) = self.reply.take() {
            reply.answer(answer);
        }
    }
}

/// Knows what replies mean to operations that were begun.
pub(crate) trait Answers: Send + Sync {
    /// Answers the operation that was begun then; without a reply its command was never sent. What has to
    /// [go on](Self::go_on) is not answered.
    fn answer(
        &self,
        begun: &mut Begun,
        since: Instant,
        reply: Option<Result<protocol::Reply, BackendError>>,
    ) -> Option<GoesOn>;

    /// Examines whether the vote counts, or gets one in another way.
    fn go_on(self: Arc<Self>, begun: Begun, rest: GoesOn);
}

/// An operation that takes more than one command.
pub(crate) struct GoesOn {
    since: Instant,
    vote: Option<Vote>,
}

/// Those begun on this connection of this node.
struct OnLine<S: Source> {
    node: Arc<Node<S>>,
    line: Arc<Line<S::Connection>>,
}

/// Has the command sent that acquires for this ttl, or releases, if there is a connection on which that is all.
pub(crate) fn begin<S: Source>(
    node: &Arc<Node<S>>,
    ttl: Option<Duration>,
    resources: &Resources,
    value: &LockValue,
    reply: Reply,
) -> Result<(), Reply> {
    let line = match node.source.line_now() {
        Some(line) if line.sends() => line,
        _ => return Err(reply),
    };
    let backend = &line.backend;
    let packed = |shortcut, words: &[&str]| (shortcut, Command::Other(command(words.iter())));
    let packed = if let Some(ttl) = ttl {
        backend.acquire_at_once(resources, value, ttl, packed)
    } else {
        let joinable = line
            .joins()
            .then(|| backend.joinable_release(resources, value));
        match joinable.flatten() {
            Some((shortcut, release)) => Some((shortcut, Command::Release(release))),
            None => backend.release_at_once(resources, value, packed),
        }
    };
    let Some((shortcut, command)) = packed else {
        return Err(reply);
    };
    if ttl.is_none() {
        node.doubts.release(resources, value, Some(&line));
    }
    let begun = Begun {
        shortcut,
        ttl,
        resources: resources.clone(),
        value: value.clone(),
        reply: Some(reply),
    };
    line.send(node.response_timeout, command, begun, || {
        let (node, line) = (Arc::clone(node), Arc::clone(&line));
        Arc::new(OnLine { node, line })
    });
    Ok(())
}

impl<S: Source> Answers for OnLine<S> {
    fn answer(
        &self,
        begun: &mut Begun,
        since: Instant,
        reply: Option<Result<protocol::Reply, BackendError>>,
    ) -> Option<GoesOn> {
        let Self { node, line } = self;
        let vote = match line.read(reply) {
            Err(error) if is_noscript(&error) => Ok(None),
            reply => line.backend.vote(begun.shortcut, &begun.resources, reply),
        };
        let is_acquire = begun.ttl.is_some();
        match vote {
            Ok(Some(vote)) if line.counts(is_acquire && vote == Vote::Granted) => {
                node.useful(begun.operation(), &begun.resources, vote);
                begun.answer(Ok(vote));
                None
            }
            Ok(vote) => Some(GoesOn { since, vote }),
            Err(error) => {
                if node.failed(begun.operation(), &begun.value, line, &error) {
                    node.source.retire(line, &error);
                }
                begun.answer(Err(error));
                None
            }
        }
    }

    fn go_on(self: Arc<Self>, mut begun: Begun, rest: GoesOn) {
        // Without a runtime nobody is left to be told.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let Self { node, line } = &*self;
            let GoesOn { since, vote } = rest;
            let (operation, resources, value) = (begun.operation(), &begun.resources, &begun.value);
            let answer = match vote {
                Some(vote) => {
                    let counted = node.counted(operation, resources, value, line, since, vote);
                    counted.await
                }
                None => node.run(operation, resources, value).await,
            };
            begun.answer(answer);
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use redlock_core::redis::Release;

    use super::*;
    use crate::{connection::Protocol, line::tests::Slow};

    /// Takes every reply for a grant; of what was not sent nothing may have happened.
    pub(crate) struct Grants;

    impl Answers for Grants {
        fn answer(
            &self,
            begun: &mut Begun,
            _: Instant,
            reply: Option<Result<protocol::Reply, BackendError>>,
        ) -> Option<GoesOn> {
            let never = || Err(BackendError::timeout().not_executed());
            let reply = reply.unwrap_or_else(never);
            begun.answer(reply.map(|_| Vote::Granted));
            None
        }

        fn go_on(self: Arc<Self>, _: Begun, _: GoesOn) {}
    }

    /// A release that may be joined with others.
    pub(crate) fn begun(reply: Reply) -> (Release, Begun) {
        let backend = Protocol::default().over(Slow(Duration::ZERO));
        let (resources, value) = (Resources::new(["a"]).expect("a name"), LockValue::random());
        let joinable = backend.joinable_release(&resources, &value);
        let (shortcut, release) = joinable.expect("nothing is known of the server");
        let begun = Begun {
            shortcut,
            ttl: None,
            resources,
            value,
            reply: Some(reply),
        };
        (release, begun)
    }
}
