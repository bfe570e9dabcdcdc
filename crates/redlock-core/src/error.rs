//! What can go wrong, and what each node said to it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{BackendError, InvalidRequest, Vote, quorum::quorum};

/// Why a lock was not acquired, extended or released.
///
/// The variant answers the first question, contention or outage; the [`Votes`] tell what each node
/// said.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else holds it: nodes refused that would have made a quorum.
    #[error("locked by another: {0}")]
    Locked(Votes),

    /// An outage: too many nodes gave no answer. Of an extension or a release the outcome is unknown;
    /// a held lock stays valid until its deadline.
    #[error("no quorum of nodes answered: {0}")]
    NoQuorum(Votes),

    /// A quorum granted, but so late that no validity was left. What was taken is released again.
    #[error("granted too late to be of use: {0}")]
    Late(Votes),

    /// The lock had expired or been taken: what it protected may have been done by another meanwhile.
    #[error("the lock is lost: {}", LostReason(.0))]
    Lost(Votes),

    /// The request makes no sense; nothing was sent.
    #[error("invalid request: {0}")]
    Invalid(InvalidRequest),
}

impl From<InvalidRequest> for Error {
    fn from(invalid: InvalidRequest) -> Self {
        Self::Invalid(invalid)
    }
}

/// Why [`using`](crate::Redlock::using) did not run its routine under a lock from beginning to end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UsingError<T> {
    /// The lock was not acquired, and the routine not called.
    #[error(transparent)]
    NotAcquired(#[from] Error),

    /// The lock did not last until the routine had ended: part of it may have run beside another holder.
    #[error("the routine has ended, but not under the lock: {error}")]
    Lost {
        /// What the routine returned.
        outcome: T,
        /// How the lock ended.
        error: Error,
    },
}

impl<T> From<UsingError<T>> for Error {
    fn from(error: UsingError<T>) -> Self {
        match error {
            UsingError::NotAcquired(error) | UsingError::Lost { error, .. } => error,
        }
    }
}

impl Error {
    /// What each node said, unless nothing was sent.
    #[must_use]
    pub const fn votes(&self) -> Option<&Votes> {
        match self {
            Self::Locked(votes) | Self::NoQuorum(votes) | Self::Late(votes) | Self::Lost(votes) => {
                Some(votes)
            }
            Self::Invalid(_) => None,
        }
    }
}

/// What each node answered in one round, in the order in which the nodes were given.
///
/// `Display` is one line for a log: how many granted, then every node that did not.
#[derive(Clone)]
pub struct Votes {
    nodes: Names,
    parts: Box<[Part]>,
}

/// The nodes' names.
pub(crate) type Names = Arc<Box<[Arc<str>]>>;

#[derive(Clone, Debug)]
struct Part {
    answer: Option<Result<Vote, BackendError>>,
    took: Duration,
}

/// One node's part in a round.
#[derive(Clone, Copy, Debug)]
pub struct NodeVote<'a> {
    node: &'a str,
    answer: Option<&'a Result<Vote, BackendError>>,
    took: Duration,
}

impl Votes {
    pub(crate) fn new(nodes: &Names) -> Self {
        let pending = Part {
            answer: None,
            took: Duration::ZERO,
        };
        Self {
            nodes: Arc::clone(nodes),
            parts: vec![pending; nodes.len()].into(),
        }
    }

    /// Of nobody.
    pub(crate) fn none() -> Self {
        Self {
            nodes: Arc::default(),
            parts: Box::default(),
        }
    }

    pub(crate) fn cast(&mut self, node: usize, answer: Result<Vote, BackendError>, took: Duration) {
        let answer = Some(answer);
        self.parts[node] = Part { answer, took };
    }

    pub(crate) fn answer(&self, node: usize) -> Option<&Result<Vote, BackendError>> {
        self.parts[node].answer.as_ref()
    }

    /// The nodes whose answer had not come when the outcome was already certain, or when time was up.
    pub(crate) fn pending(&self) -> impl Iterator<Item = usize> {
        (0..self.parts.len()).filter(|node| self.parts[*node].answer.is_none())
    }

    /// Each node's part.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = NodeVote<'_>> + DoubleEndedIterator {
        let both = self.nodes.iter().zip(&self.parts);
        both.map(|(node, part)| NodeVote {
            node,
            answer: part.answer.as_ref(),
            took: part.took,
        })
    }

    /// How many nodes were asked.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.parts.len()
    }

    /// How many granted.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.count(|answer| matches!(answer, Some(Ok(Vote::Granted))))
    }

    /// How many refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.count(|answer| matches!(answer, Some(Ok(Vote::Refused))))
    }

    /// How many gave no usable answer.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(|answer| matches!(answer, Some(Err(_))))
    }

    fn count(&self, wanted: impl Fn(Option<&Result<Vote, BackendError>>) -> bool) -> usize {
        self.iter().filter(|vote| wanted(vote.answer())).count()
    }
}

/// Either the nodes said so, or, whatever they said when they were last asked, the deadline has passed.
struct LostReason<'a>(&'a Votes);

impl fmt::Display for LostReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(votes) = self;
        if votes.refused() > votes.nodes().saturating_sub(quorum(votes.nodes())) {
            votes.fmt(f)
        } else {
            write!(f, "its deadline has passed; when last asked, {votes}")
        }
    }
}

impl<'a> NodeVote<'a> {
    /// The node's name.
    #[must_use]
    pub const fn node(self) -> &'a str {
        self.node
    }

    /// What it answered; `None` if the outcome was certain before it did.
    #[must_use]
    pub const fn answer(self) -> Option<&'a Result<Vote, BackendError>> {
        self.answer
    }

    /// How long it took from when it was asked; zero if the answer was not awaited.
    #[must_use]
    pub const fn took(self) -> Duration {
        self.took
    }
}

impl fmt::Debug for Votes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for Votes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes();
        write!(
            f,
            "{} of {nodes} nodes granted, {} needed",
            self.granted(),
            quorum(nodes)
        )?;
        for vote in self
            .iter()
            .filter(|vote| !matches!(vote.answer, Some(Ok(Vote::Granted))))
        {
            write!(f, "; {vote}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NodeVote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, answer, took } = self;
        match answer {
            Some(Ok(Vote::Granted)) => write!(f, "{node} granted in {took:.1?}"),
            Some(Ok(Vote::Refused)) => write!(f, "{node} refused in {took:.1?}"),
            Some(Err(error)) => write!(f, "{node} failed after {took:.1?} ({error})"),
            None => write!(f, "{node} not awaited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendErrorKind;

    #[test]
    fn one_line_tells_contention_from_outage_and_names_the_nodes() {
        let nodes: [Arc<str>; 3] = ["a:1", "b:2", "c:3"].map(Into::into);
        let nodes = Arc::new(Box::from(nodes));
        let mut votes = Votes::new(&nodes);
        votes.cast(0, Ok(Vote::Granted), Duration::from_millis(1));
        votes.cast(
            1,
            Err(BackendError::new(
                BackendErrorKind::Unreachable,
                "connection refused",
            )),
            Duration::from_micros(1500),
        );
        votes.cast(2, Err(BackendError::timeout()), Duration::from_millis(50));
        assert_eq!(
            Error::NoQuorum(votes).to_string(),
            "no quorum of nodes answered: 1 of 3 nodes granted, 2 needed; b:2 failed after 1.5ms \
             (unreachable: connection refused); c:3 failed after 50.0ms (timed out)"
        );
    }
}
