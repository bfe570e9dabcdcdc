//! Everything that can happen to a lock, to see how it is told.

use std::time::Duration;

use redlock_core::{Error, Lock, Redlock};
use redlock_test::{Fault, Operation};
use tokio::time::sleep;

use super::*;

/// Everything that can happen to a lock. Gives the values of all locks.
pub async fn everything(nodes: &[Node], redlock: &Redlock) -> Vec<String> {
    let mut values = Vec::new();
    let mut keep = |lock: &Lock| values.push(lock.value().as_str().to_owned());

    // acquired, renewed, healed, renewal failed, released
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    keep(&lock);
    sleep(ms(10)).await;
    nodes[0].inner().forget();
    lock.extend(TTL).await.unwrap();
    sleep(ms(10)).await;
    for node in &nodes[..2] {
        node.once(Operation::Extend, Fault::Down);
    }
    assert!(matches!(lock.extend(TTL).await, Err(Error::NoQuorum(_))));

    // not acquired: locked
    assert!(redlock.try_acquire("a", TTL).await.is_err());
    lock.release().await.unwrap();

    // not acquired: an outage, one node of which is hung
    nodes[0].once(Operation::Acquire, HUNG);
    nodes[1].once(Operation::Acquire, Fault::Down);
    assert!(matches!(
        redlock.try_acquire("b", TTL).await,
        Err(Error::NoQuorum(_))
    ));

    // not acquired: late
    for node in nodes {
        node.once(Operation::Acquire, late(49));
    }
    assert!(matches!(
        redlock.try_acquire("c", ms(50)).await,
        Err(Error::Late(_))
    ));

    // kept, and lost
    let kept = redlock.acquire("d", TTL).await.unwrap();
    keep(&kept);
    let kept = kept.keep_alive();
    sleep(TTL).await;
    nodes.iter().for_each(|node| node.inner().forget());
    kept.signal().lost().await;
    assert!(kept.release().await.is_err());

    // dropped
    let dropped = redlock.acquire("e", TTL).await.unwrap();
    keep(&dropped);
    drop(dropped);
    sleep(Duration::from_secs(1)).await;
    values
}

/// The same, on nodes of its own.
pub async fn everything_fresh() -> Vec<String> {
    let nodes = nodes(3);
    everything(&nodes, &redlock(&nodes)).await
}

/// Runs on a paused clock, on this thread.
pub fn run<T, F: Future<Output = T>>(routine: impl FnOnce() -> F) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(routine())
}
