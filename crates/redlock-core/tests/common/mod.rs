//! Nodes in memory that can be made to misbehave.
#![allow(dead_code, reason = "not every test file uses all of it")]

pub mod everything;

use std::time::Duration;

use redlock_core::{MemoryBackend, Redlock, RedlockBuilder};
use redlock_test::{Fault, Faulty};

pub type Node = Faulty<MemoryBackend>;

pub const TTL: Duration = Duration::from_secs(10);

/// The node timeout that goes with [`TTL`].
pub const NODE_TIMEOUT: Duration = Duration::from_millis(500);

/// A fault after which the node never answers.
pub const HUNG: Fault = Fault::LoseRequest;

pub fn nodes(count: usize) -> Vec<Node> {
    (0..count)
        .map(|_| Faulty::new(MemoryBackend::new()))
        .collect()
}

pub fn builder(nodes: &[Node]) -> RedlockBuilder {
    Redlock::builder(nodes.iter().cloned())
}

pub fn redlock(nodes: &[Node]) -> Redlock {
    builder(nodes).build().unwrap()
}

/// How many nodes hold the resource.
pub fn holding(nodes: &[Node], resource: &str) -> usize {
    nodes
        .iter()
        .filter(|node| node.inner().holder(resource).is_some())
        .count()
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A delay of the request only.
pub const fn late(millis: u64) -> Fault {
    Fault::Delay {
        request: ms(millis),
        reply: Duration::ZERO,
    }
}

/// Waits until the condition holds; fails before [`TTL`] could make it hold by itself.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(ms(5)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(8), waited).await;
    assert!(outcome.is_ok(), "never: {what}");
}
