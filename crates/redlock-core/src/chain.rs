//! Keeps a release behind what it answers, on each node.

use tokio::sync::oneshot;

/// Whether a node carries our value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Held {
    No,
    Yes,
    /// Perhaps; perhaps only later.
    Unknown,
}

/// The acquire and the extensions of one lock that are under way on one node.
#[derive(Debug)]
pub(crate) struct Chain {
    under_way: Vec<oneshot::Receiver<Held>>,
    /// By what has ended.
    held: Held,
    /// Whether only the acquire was ever asked: then nothing can set the value but that.
    acquire_only: bool,
}

/// When an operation is sent, and whom it tells when it has ended.
#[derive(Debug)]
pub(crate) enum Turn {
    /// An acquire or an extension: at once.
    Now(oneshot::Sender<Held>),
    /// A release: also when all of these have ended or were dropped.
    After(Chain),
}

impl Chain {
    pub(crate) const fn new(held: Held) -> Self {
        Self {
            under_way: Vec::new(),
            held,
            acquire_only: true,
        }
    }

    /// For an acquire or an extension.
    pub(crate) fn now(&mut self, extends: bool) -> Turn {
        self.settle();
        self.acquire_only &= !extends;
        let (done, ended) = oneshot::channel();
        self.under_way.push(ended);
        Turn::Now(done)
    }

    /// For a release.
    pub(crate) fn after(&mut self) -> Turn {
        self.settle();
        Turn::After(std::mem::replace(self, Self::new(Held::No)))
    }

    pub(crate) const fn is_acquire_only(&self) -> bool {
        self.acquire_only
    }

    pub(crate) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Waits for everything under way.
    pub(crate) async fn ended(self) -> Held {
        let mut held = self.held;
        for ended in self.under_way {
            held = held.max(ended.await.unwrap_or(Held::Unknown));
        }
        held
    }

    /// Takes note of what has ended.
    fn settle(&mut self) {
        let mut held = self.held;
        self.under_way.retain_mut(|ended| match ended.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => true,
            ended => {
                held = held.max(ended.unwrap_or(Held::Unknown));
                false
            }
        });
        self.held = held;
    }
}
