//! Who holds a resource, asked of all nodes.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    BackendError, Error, Holder, Redlock, Resources, Verdict,
    caught::caught,
    claim::UNKNOWN_TTL,
    clock::{Instant, after, timeout_at},
};

impl Redlock {
    /// Asks all nodes at once who holds a resource, and changes nothing.
    ///
    /// It waits for every node, but for none longer than the [node timeout](crate::RedlockBuilder::node_timeout),
    /// by default 500 ms. The answers are of the moments at which the nodes gave them, and may be out of date
    /// when they are read: they are for people and for logs, and no lock.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], before anything is sent, when the name is empty. That nodes fail is no error but
    /// part of what is told; a backend that cannot tell answers
    /// [`Unsupported`](crate::BackendErrorKind::Unsupported).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the questions; as they change nothing, nothing has to be undone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock_core::{Error, MemoryBackend, Redlock};
    /// use redlock_core::Verdict;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Error> {
    /// # let redlock = Redlock::new((0..3).map(|_| MemoryBackend::new()))?;
    /// assert_eq!(redlock.inspect("orders:42").await?.verdict(), &Verdict::Free);
    ///
    /// let lock = redlock.acquire("orders:42", Duration::from_secs(10)).await?;
    /// let inspection = redlock.inspect("orders:42").await?;
    /// let Verdict::HeldBy(holder) = inspection.verdict() else { panic!("{inspection}") };
    /// assert_eq!(holder.value, *lock.value());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("holder", "owner", "ttl"))]
    pub async fn inspect(&self, resource: impl Into<String>) -> Result<Inspection, Error> {
        let resource = Resources::new([resource])?;
        self.check_resources(&resource)?;
        let started = Instant::now();
        let deadline = after(started, self.0.settings.node_timeout(UNKNOWN_TTL));
        let asked = self.0.nodes.iter().map(async |node| {
            let told = timeout_at(deadline, caught(node.backend.inspect(&resource[0])));
            NodeInspection {
                answer: told.await.unwrap_or_else(|_| Err(BackendError::timeout())),
                took: started.elapsed(),
                node: Arc::clone(&node.name),
            }
        });
        Ok(Inspection::new(join_all(asked).await))
    }
}

/// What each node said to "who holds it?", in the order in which the nodes were given, and what that comes
/// to.
///
/// `Display` is one line for a log, without the whole value: the verdict, then every node.
#[derive(Clone, Debug)]
pub struct Inspection {
    verdict: Verdict,
    nodes: Box<[NodeInspection]>,
}

/// One node's answer to "who holds it?".
#[derive(Clone, Debug)]
pub struct NodeInspection {
    node: Arc<str>,
    answer: Result<Option<Holder>, BackendError>,
    took: Duration,
}

impl Inspection {
    fn new(nodes: Vec<NodeInspection>) -> Self {
        let answers = nodes.iter().map(|node| node.answer.as_ref().ok());
        Self {
            verdict: Verdict::of(answers.map(|answer| answer.map(Option::as_ref))),
            nodes: nodes.into(),
        }
    }

    /// What the answers come to.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Each node's answer.
    pub fn iter(&self) -> std::slice::Iter<'_, NodeInspection> {
        self.nodes.iter()
    }
}

impl<'a> IntoIterator for &'a Inspection {
    type Item = &'a NodeInspection;
    type IntoIter = std::slice::Iter<'a, NodeInspection>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl NodeInspection {
    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Who holds the resource there; `None` if it is free.
    ///
    /// # Errors
    ///
    /// Why the node did not tell.
    pub const fn answer(&self) -> Result<Option<&Holder>, &BackendError> {
        match &self.answer {
            Ok(holder) => Ok(holder.as_ref()),
            Err(error) => Err(error),
        }
    }

    /// How long the answer took.
    #[must_use]
    pub const fn took(&self) -> Duration {
        self.took
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdict.fmt(f)?;
        self.iter().try_for_each(|node| write!(f, "; {node}"))
    }
}

impl fmt::Display for NodeInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, answer, took } = self;
        match answer {
            Ok(Some(holder)) => write!(f, "{node} {holder}"),
            Ok(None) => write!(f, "{node} free"),
            Err(error) => write!(f, "{node} failed after {took:.1?} ({error})"),
        }
    }
}
