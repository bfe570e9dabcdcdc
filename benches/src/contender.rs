//! Who is measured: one way each to take and free a lock on N servers.

mod floor;
mod ours;
mod peer;
mod reference;
mod reference_fred;
mod rslock;

use std::{fmt, str::FromStr, time::Duration};

use crate::rounds::{Measured, Runner};
pub(crate) use peer::script;

/// What every lock is taken for.
pub const TTL: Duration = Duration::from_secs(10);

/// Why the naive ones fail: they do not say more.
const NO_QUORUM: &str = "no quorum granted";

/// Frees a lock in a script, as all of them do.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A way to take and free a lock.
pub trait Contender: Send + Sync + 'static {
    /// A lock that is held.
    type Held: Send;

    /// Takes the lock, and waits for it if it can.
    ///
    /// # Errors
    ///
    /// Why it could not be had.
    fn acquire(&self, resource: &str) -> impl Future<Output = Result<Self::Held, String>> + Send;

    /// Frees it.
    ///
    /// # Errors
    ///
    /// Why it is not known to have been held until now.
    fn release(&self, held: Self::Held) -> impl Future<Output = Result<(), String>> + Send;
}

/// The contenders by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// This library over the redis crate.
    Ours,
    /// This library over fred.
    Fred,
    /// This library in memory.
    Memory,
    /// The naive fan-out over the redis crate's multiplexed connection.
    Reference,
    /// The naive fan-out over fred.
    ReferenceFred,
    /// The naive fan-out over a minimal RESP client.
    Floor,
    /// The crate `rslock`.
    Rslock,
    /// node-redlock.
    Node,
}

impl Which {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ours,
        Self::Fred,
        Self::Memory,
        Self::Reference,
        Self::ReferenceFred,
        Self::Floor,
        Self::Rslock,
        Self::Node,
    ];

    /// Its name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Fred => "fred",
            Self::Memory => "memory",
            Self::Reference => "reference",
            Self::ReferenceFred => "reference-fred",
            Self::Floor => "floor",
            Self::Rslock => "rslock",
            Self::Node => "redlock@5",
        }
    }

    /// Whether what it needs is installed.
    #[must_use]
    pub fn is_available(self) -> bool {
        self != Self::Node || peer::is_installed()
    }

    /// Whether the servers' own counts tell what it sends: not in memory, nor where a script sets.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        !matches!(self, Self::Memory | Self::Node)
    }

    /// Connects it to these servers.
    ///
    /// # Panics
    ///
    /// When a server cannot be reached.
    pub async fn connect(self, urls: &[String]) -> Box<dyn Runner> {
        match self {
            Self::Ours => measured(self, ours::Ours::over_redis_rs(urls)),
            Self::Fred => measured(self, ours::Ours::over_fred(urls)),
            Self::Memory => measured(self, ours::Ours::in_memory(urls.len())),
            Self::Reference => measured(self, reference::Reference::connect(urls).await),
            Self::ReferenceFred => {
                measured(self, reference_fred::ReferenceFred::connect(urls).await)
            }
            Self::Floor => measured(self, floor::Floor::connect(urls).await),
            Self::Rslock => measured(self, rslock::Rslock::connect(urls)),
            Self::Node => Box::new(peer::Peer::start(urls)),
        }
    }
}

fn measured(which: Which, contender: impl Contender) -> Box<dyn Runner> {
    Box::new(Measured::new(which, contender))
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Which {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|which| which.name() == name);
        found.ok_or_else(|| format!("no contender is called {name}"))
    }
}

/// How many of so many nodes must grant.
const fn quorum(nodes: usize) -> usize {
    nodes / 2 + 1
}
