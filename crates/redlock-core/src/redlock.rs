//! The lock manager: which nodes, which settings.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Fencing, InvalidRequest, LockBackend, RedlockBuilder, error::Names, fencing::Proposer,
    queue::Queues, telemetry::Listeners,
};

/// Takes locks over N independent nodes.
///
/// Cheap to clone; share one per set of nodes. A lock is granted by a quorum, `N / 2 + 1`, so that
/// three nodes tolerate the failure of one, five of two. Nothing is sent until the first lock is asked
/// for, and the nodes need not be up before.
///
/// Every operation asks all nodes at once. A node that does not answer within its timeout costs
/// nothing but its vote; its late answer is dealt with in the background.
#[derive(Clone)]
pub struct Redlock(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) nodes: Box<[Node]>,
    /// Theirs, for all votes.
    pub(crate) names: Names,
    pub(crate) settings: Settings,
    pub(crate) proposer: Option<Proposer>,
    pub(crate) queues: Queues,
    pub(crate) listeners: Listeners,
}

pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) backend: Arc<dyn LockBackend>,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) retry_count: u32,
    pub(crate) retry_delay: Duration,
    pub(crate) retry_jitter: Option<Duration>,
    pub(crate) drift_factor: f64,
    pub(crate) node_timeout: Option<Duration>,
    pub(crate) cleanup_timeout: Option<Duration>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) max_hold: Option<Duration>,
}

impl Redlock {
    /// A lock manager over these nodes with the default settings.
    ///
    /// Nodes of one type are given as they are; nodes of different types as `Arc<dyn LockBackend>`, or
    /// one by one through [`RedlockBuilder::node`].
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`] when there is no node or a node was given twice.
    pub fn new<B: LockBackend>(nodes: impl IntoIterator<Item = B>) -> Result<Self, InvalidRequest> {
        Self::builder(nodes).build()
    }

    /// A lock manager over these nodes with settings of your own.
    pub fn builder<B: LockBackend>(nodes: impl IntoIterator<Item = B>) -> RedlockBuilder {
        RedlockBuilder::new(nodes)
    }

    pub(crate) fn from_parts(
        nodes: Vec<Node>,
        settings: Settings,
        fencing: Option<Fencing>,
    ) -> Self {
        let names = nodes.iter().map(|node| Arc::clone(&node.name));
        let names = Arc::new(names.collect());
        Self(Arc::new(Shared {
            nodes: nodes.into(),
            names,
            settings,
            proposer: fencing.map(Proposer::new),
            queues: Queues::default(),
            listeners: Listeners::default(),
        }))
    }

    /// The names of the nodes, in the order in which they were given.
    #[must_use]
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.nodes.iter().map(|node| &*node.name)
    }

    /// How many nodes must grant.
    #[must_use]
    pub fn quorum(&self) -> usize {
        crate::quorum::quorum(self.0.nodes.len())
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redlock")
            .field("nodes", &self.nodes().collect::<Vec<_>>())
            .field("settings", &self.0.settings)
            .finish()
    }
}
