//! Keeps a release behind what it answers, on each node.

use std::{mem, sync::Arc};

use crate::ballot::Ballot;

/// Whether a node carries our value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Held {
    No,
    Yes,
    /// Perhaps; perhaps only later.
    Unknown,
}

/// The acquire and the extensions of one lock that are under way, on all nodes.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    under_way: Vec<Arc<Ballot>>,
    /// By what has ended, on each node.
    held: Box<[Held]>,
    /// Whether anything but the acquire was ever asked: that can set the value, too.
    extended: bool,
}

impl Chain {
    pub(crate) fn new(nodes: usize, held: Held) -> Self {
        Self {
            under_way: Vec::new(),
            held: vec![held; nodes].into(),
            extended: false,
        }
    }

    /// An acquire or an extension is asked.
    pub(crate) fn add(&mut self, ballot: &Arc<Ballot>, extends: bool) {
        self.settle();
        self.extended |= extends;
        self.under_way.push(Arc::clone(ballot));
    }

    /// What a release has to follow. From then on nothing is held any more.
    pub(crate) fn take(&mut self) -> Self {
        self.settle();
        let nodes = self.held.len();
        mem::replace(self, Self::new(nodes, Held::No))
    }

    pub(crate) const fn is_acquire_only(&self) -> bool {
        !self.extended
    }

    /// Whether the node carries the value; `None` while something is under way there.
    pub(crate) fn held(&self, node: usize) -> Option<Held> {
        let under_way = self.under_way.iter();
        let mut ended = under_way.map(|ballot| ballot.held(node));
        ended.try_fold(self.held[node], |held, ended| Some(held.max(ended?)))
    }

    /// Waits for everything under way on this node.
    pub(crate) async fn ended(&self, node: usize) -> Held {
        let mut held = self.held[node];
        for ballot in &self.under_way {
            held = held.max(ballot.ended(node).await);
        }
        held
    }

    /// Takes note of what has ended on all nodes.
    fn settle(&mut self) {
        let held = &mut self.held;
        self.under_way.retain(|ballot| {
            let Some(ended) = ballot.all_held() else {
                return true;
            };
            for (held, ended) in held.iter_mut().zip(ended) {
                *held = (*held).max(ended);
            }
            false
        });
    }
}
