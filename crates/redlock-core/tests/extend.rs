//! Extending a lock, on the paused clock.

mod common;

use std::time::Duration;

use common::*;
use redlock_core::{BackendErrorKind, Error, LockBackend, LockValue, Resources};
use redlock_test::{Fault, Operation};
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn an_extension_restarts_the_ttl_from_its_own_start() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    sleep(Duration::from_secs(9)).await;
    for node in &nodes {
        node.on(Operation::Extend, late(100));
    }
    lock.extend(TTL).await.unwrap();
    assert_eq!(
        lock.validity(),
        ms(9_898 - 100),
        "counted from the request, not from the reply"
    );
    sleep(lock.validity()).await;
    assert!(!lock.is_valid());
    assert_eq!(
        holding(&nodes, "a"),
        3,
        "the nodes keep it for longer than we rely on it"
    );
}

#[tokio::test(start_paused = true)]
async fn an_extension_never_shortens_the_lock() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let before = lock.valid_until();
    lock.extend(ms(100)).await.unwrap();
    assert_eq!(lock.valid_until(), before);
    sleep(ms(9_800)).await;
    assert!(lock.is_valid());
    assert_eq!(holding(&nodes, "a"), 3);
}

#[tokio::test(start_paused = true)]
async fn an_extension_counts_over_all_nodes_not_over_those_that_granted() {
    let nodes = nodes(5);
    nodes[3].once(Operation::Acquire, Fault::Down);
    nodes[4].once(Operation::Acquire, Fault::Down);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    nodes[0].inner().forget();
    // Two of the three that granted still carry it: a majority of those, but no quorum of five.
    let error = lock.extend(TTL).await.unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    assert!(!lock.is_valid());
}

#[tokio::test(start_paused = true)]
async fn an_extension_never_revives_a_missing_key() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    let value = lock.value().clone();
    for node in &nodes {
        node.inner().forget();
    }
    assert!(matches!(lock.extend(TTL).await, Err(Error::Lost(_))));
    assert!(matches!(
        redlock.extend("a", value, TTL).await,
        Err(Error::Lost(_))
    ));
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn refusals_decide_that_it_is_lost_and_lost_is_for_ever() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    nodes[0].on(Operation::Extend, Fault::Refuse);
    nodes[1].on(Operation::Extend, Fault::Refuse);
    assert!(matches!(lock.extend(TTL).await, Err(Error::Lost(_))));
    assert!(matches!(lock.check(), Err(Error::Lost(_))));
    assert_eq!(lock.validity(), Duration::ZERO);
    nodes.iter().for_each(Node::heal);
    let asked = nodes[0].count(Operation::Extend);
    assert!(
        matches!(lock.extend(TTL).await, Err(Error::Lost(_))),
        "the keys are still there"
    );
    assert_eq!(
        nodes[0].count(Operation::Extend),
        asked,
        "nothing is sent for a lost lock"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_leave_the_lock_valid_until_its_old_deadline_and_release_nothing() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let deadline = lock.valid_until();
    for fault in [
        Fault::Fail(BackendErrorKind::Server),
        Fault::FailAfter(BackendErrorKind::Unreachable),
        Fault::Down,
        HUNG,
        Fault::Panic,
    ] {
        nodes[0].on(Operation::Extend, fault);
        nodes[1].on(Operation::Extend, fault);
        let error = lock.extend(TTL).await.unwrap_err();
        assert!(matches!(error, Error::NoQuorum(_)), "{fault:?}: {error}");
        assert_eq!(lock.valid_until(), deadline);
    }
    assert!(nodes.iter().all(|node| node.count(Operation::Release) == 0));
    nodes.iter().for_each(Node::heal);
    lock.extend(TTL).await.unwrap();
    assert!(lock.valid_until() > deadline);
}

#[tokio::test(start_paused = true)]
async fn a_mix_of_refusals_and_failures_is_unknown_not_lost() {
    let nodes = nodes(5);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    nodes[0].on(Operation::Extend, Fault::Refuse);
    nodes[1].on(Operation::Extend, Fault::Refuse);
    nodes[2].on(Operation::Extend, Fault::Down);
    assert!(matches!(lock.extend(TTL).await, Err(Error::NoQuorum(_))));
    assert!(lock.is_valid());
}

#[tokio::test(start_paused = true)]
async fn an_extension_must_be_confirmed_before_the_old_deadline() {
    let nodes = nodes(3);
    let redlock = builder(&nodes)
        .node_timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    let deadline = lock.valid_until();
    sleep(ms(9_800)).await;
    for node in &nodes {
        // Executed in time, answered 2 ms after the deadline of 9,898 ms.
        node.on(
            Operation::Extend,
            Fault::Delay {
                request: ms(10),
                reply: ms(90),
            },
        );
    }
    assert!(matches!(lock.extend(TTL).await, Err(Error::Lost(_))));
    assert_eq!(
        Instant::now(),
        deadline,
        "the answer is not awaited any longer"
    );
    sleep(Duration::from_secs(1)).await;
    assert!(!lock.is_valid(), "a late success counts for nothing");
}

#[tokio::test(start_paused = true)]
async fn past_the_deadline_nothing_is_sent_although_the_nodes_still_hold_it() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    sleep(ms(9_898)).await;
    assert_eq!(holding(&nodes, "a"), 3);
    assert!(matches!(lock.check(), Err(Error::Lost(_))));
    assert!(matches!(lock.extend(TTL).await, Err(Error::Lost(_))));
    assert_eq!(nodes[0].count(Operation::Extend), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_an_extension_leaves_the_old_deadline_in_force() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let deadline = lock.valid_until();
    for node in &nodes {
        node.on(Operation::Extend, late(100));
    }
    assert!(timeout(ms(50), lock.extend(TTL)).await.is_err());
    sleep(ms(200)).await;
    assert_eq!(lock.valid_until(), deadline);
    assert!(nodes.iter().all(|node| node.count(Operation::Release) == 0));
    lock.extend(TTL).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_extension_needs_all_resources_of_a_node() {
    let nodes = nodes(1);
    let mut lock = redlock(&nodes).acquire(["a", "b"], TTL).await.unwrap();
    let a = Resources::new(["a"]).unwrap();
    nodes[0].inner().release(&a, lock.value()).await.unwrap();
    assert!(matches!(lock.extend(TTL * 2).await, Err(Error::Lost(_))));
    sleep(TTL).await;
    assert_eq!(
        holding(&nodes, "b"),
        0,
        "the other one was not extended either"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_handed_over_by_its_value() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let value = redlock.acquire(["a", "b"], TTL).await.unwrap().leak();
    sleep(Duration::from_secs(9)).await;
    assert!(
        redlock.try_acquire("a", TTL).await.is_err(),
        "a leaked lock is not released"
    );
    let text = value.as_str().to_owned();

    let deadline = redlock
        .extend(["a", "b"], text.parse().unwrap(), TTL)
        .await
        .unwrap();
    assert_eq!(deadline - Instant::now(), ms(9_898));
    sleep(Duration::from_secs(9)).await;

    let lock = redlock
        .adopt(["b", "a"], text.parse().unwrap(), TTL)
        .await
        .unwrap();
    assert_eq!(lock.validity(), ms(9_898));
    drop(lock);
    eventually("the adopter's drop releases", || holding(&nodes, "a") == 0).await;
    assert!(matches!(
        redlock.adopt(["a", "b"], value, TTL).await,
        Err(Error::Lost(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_adopted_is_left_alone() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let held = redlock.acquire("a", TTL).await.unwrap();
    eventually("all hold it", || holding(&nodes, "a") == 3).await;
    let error = redlock
        .adopt("a", LockValue::random(), TTL)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    nodes[0].on_all(Fault::Down);
    nodes[1].on_all(Fault::Down);
    let error = redlock
        .adopt("a", held.value().clone(), TTL)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert_eq!(holding(&nodes, "a"), 3);
    assert!(nodes.iter().all(|node| node.count(Operation::Release) == 0));
}

#[tokio::test(start_paused = true)]
async fn a_hung_extension_does_not_hold_up_the_next_one() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    for node in &nodes {
        node.once(Operation::Extend, HUNG);
    }
    assert!(matches!(lock.extend(TTL).await, Err(Error::NoQuorum(_))));
    let start = Instant::now();
    lock.extend(TTL).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_release_follows_a_late_extension_also_when_it_has_gone_before() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    for node in &nodes {
        node.once(Operation::Extend, late(800));
        node.once(Operation::Release, Fault::Fail(BackendErrorKind::Server));
    }
    assert!(matches!(lock.extend(TTL).await, Err(Error::NoQuorum(_))));
    let asked = Instant::now();
    lock.release().await.unwrap();
    assert_eq!(
        asked.elapsed(),
        ms(300),
        "500 ms after it was asked for the extension has ended"
    );
    sleep(Duration::from_secs(1)).await;
    for node in &nodes {
        let operations: Vec<_> = node.calls().iter().map(|call| call.operation).collect();
        assert_eq!(
            operations[1..],
            [Operation::Extend, Operation::Release, Operation::Release]
        );
    }
}
