//! Keeps a release behind what it answers, on each node.

use tokio::sync::oneshot;

/// The acquire and the extensions of one lock that are under way on one node.
#[derive(Debug)]
pub(crate) struct Chain {
    under_way: Vec<oneshot::Receiver<bool>>,
    /// Whether the node may carry our value, by what has ended.
    may_hold: bool,
}

/// When an operation may be sent, and whom it tells when it has ended.
#[derive(Debug)]
pub(crate) enum Turn {
    /// At once; then it says whether the node may carry our value.
    Now(oneshot::Sender<bool>),
    /// When everything before has ended or was dropped.
    After(Chain),
}

impl Chain {
    /// `may_hold` says whether the node may carry our value already.
    pub(crate) const fn new(may_hold: bool) -> Self {
        Self {
            under_way: Vec::new(),
            may_hold,
        }
    }

    /// For an acquire or an extension.
    pub(crate) fn now(&mut self) -> Turn {
        let mut may_hold = self.may_hold;
        self.under_way.retain_mut(|ended| match ended.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => true,
            ended => {
                may_hold |= ended.unwrap_or(true);
                false
            }
        });
        self.may_hold = may_hold;
        let (done, ended) = oneshot::channel();
        self.under_way.push(ended);
        Turn::Now(done)
    }

    /// For a release, at once and whenever it is first polled.
    pub(crate) fn after(&mut self) -> Turn {
        Turn::After(std::mem::replace(self, Self::new(false)))
    }

    /// Waits for everything under way; tells whether the node may carry our value now.
    pub(crate) async fn ended(self) -> bool {
        let mut may_hold = self.may_hold;
        for ended in self.under_way {
            may_hold |= ended.await.unwrap_or(true);
        }
        may_hold
    }
}
