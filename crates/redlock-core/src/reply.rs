//! Where an answer goes that nobody awaits.

use std::{
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tokio::sync::oneshot;

use crate::{BackendError, BackendErrorKind, Vote, ask::Ask};

/// Takes the answer to an operation that was [begun](crate::LockBackend::begin_acquire).
///
/// Dropped without an answer it says that the outcome is unknown.
#[must_use = "dropped without an answer it is a failure"]
pub struct Reply(Whom);

enum Whom {
    /// Whether the operation was sent while what it follows was under way.
    Round {
        ask: Ask,
        is_behind: bool,
    },
    One(oneshot::Sender<Result<Vote, BackendError>>),
    Nobody,
}

impl Reply {
    /// A reply, and what waits for it.
    ///
    /// ```
    /// use redlock_core::{Reply, Vote};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let (reply, answer) = Reply::new();
    /// reply.answer(Ok(Vote::Granted));
    /// assert_eq!(answer.await.unwrap(), Vote::Granted);
    /// # }
    /// ```
    pub fn new() -> (
        Self,
        impl Future<Output = Result<Vote, BackendError>> + Send,
    ) {
        let (sender, receiver) = oneshot::channel();
        let answer = async { receiver.await.unwrap_or_else(|_| Err(unanswered())) };
        (Self(Whom::One(sender)), answer)
    }

    /// To an acquire.
    pub(crate) const fn to(ask: Ask) -> Self {
        Self::behind(ask, false)
    }

    /// To a release.
    pub(crate) const fn behind(ask: Ask, is_behind: bool) -> Self {
        Self(Whom::Round { ask, is_behind })
    }

    /// The operation has ended.
    pub fn answer(mut self, result: Result<Vote, BackendError>) {
        self.tell(result);
    }

    pub(crate) fn give_back(mut self) -> Option<Ask> {
        match mem::replace(&mut self.0, Whom::Nobody) {
            Whom::Round { ask, .. } => Some(ask),
            Whom::One(_) | Whom::Nobody => None,
        }
    }

    fn tell(&mut self, result: Result<Vote, BackendError>) {
        let whom = mem::replace(&mut self.0, Whom::Nobody);
        // One that panics, such as a subscriber of events, must not take along who answers, nor what that answers else.
        let _ = catch_unwind(AssertUnwindSafe(|| match whom {
            Whom::Round { ask, is_behind } => ask.answered(result, is_behind),
            Whom::One(sender) => drop(sender.send(result)),
            Whom::Nobody => {}
        }));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !matches!(self.0, Whom::Nobody) {
            self.tell(Err(unanswered()));
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

fn unanswered() -> BackendError {
    BackendError::new(BackendErrorKind::Server, "the backend gave no answer")
}
