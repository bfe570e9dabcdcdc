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
#[derive(Debug)]
pub(crate) struct Chain {
    under_way: Vec<Arc<Ballot>>,
    /// Whether all nodes carried it from the beginning.
    before: Held,
    /// By what has ended, on each node; empty if nothing has.
    ended: Box<[Held]>,
    /// Whether anything but the acquire was ever asked: that can set the value, too.
    extended: bool,
}

impl Chain {
    pub(crate) fn new(before: Held) -> Self {
        Self {
            under_way: Vec::new(),
            before,
            ended: Box::default(),
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
        mem::replace(self, Self::new(Held::No))
    }

    pub(crate) const fn is_acquire_only(&self) -> bool {
        !self.extended
    }

    /// Whether the node carries the value; `None` while something is under way there.
    pub(crate) fn held(&self, node: usize) -> Option<Held> {
        let under_way = self.under_way.iter();
        let mut ended = under_way.map(|ballot| ballot.held(node));
        ended.try_fold(self.settled(node), |held, ended| Some(held.max(ended?)))
    }

    /// Waits for everything under way on this node.
    pub(crate) async fn ended(&self, node: usize) -> Held {
        let mut held = self.settled(node);
        for ballot in &self.under_way {
            held = held.max(ballot.ended(node).await);
        }
        held
    }

    fn settled(&self, node: usize) -> Held {
        let ended = self.ended.get(node).copied();
        ended.map_or(self.before, |ended| ended.max(self.before))
    }

    /// Takes note of what has ended on all nodes.
    fn settle(&mut self) {
        let ended = &mut self.ended;
        self.under_way.retain(|ballot| !ballot.settle(ended));
    }
}
