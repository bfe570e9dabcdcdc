//! What becomes of a request to a node that misbehaves, on the paused clock.

use std::time::Duration;

use redlock_core::{BackendErrorKind, LockBackend, LockValue, MemoryBackend, Resources, Vote};
use redlock_test::{Fault, Faulty, Operation};
use tokio::time::{Instant, sleep};

const TTL: Duration = Duration::from_secs(10);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn node() -> Faulty<MemoryBackend> {
    Faulty::new(MemoryBackend::new())
}

fn resource(name: &str) -> Resources {
    Resources::new([name]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_an_acquire_sets_the_lock_again_after_it_was_released() {
    let (node, name, value) = (node(), resource("a"), LockValue::random());
    node.once(Operation::Acquire, Fault::Duplicate { after: ms(500) });
    let start = Instant::now();
    assert_eq!(
        node.acquire(&name, &value, TTL).await.unwrap(),
        Vote::Granted
    );
    assert_eq!(start.elapsed(), Duration::ZERO, "answered by the first");
    assert_eq!(node.release(&name, &value).await.unwrap(), Vote::Granted);
    sleep(ms(499)).await;
    assert_eq!(node.inner().held(), 0);
    sleep(ms(2)).await;
    assert_eq!(node.inner().holder("a"), Some(value));
    assert_eq!(node.count(Operation::Acquire), 1);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_a_release_leaves_the_next_holder_alone() {
    let (node, name) = (node(), resource("a"));
    let (first, second) = (LockValue::random(), LockValue::random());
    node.once(Operation::Release, Fault::Duplicate { after: ms(500) });
    node.acquire(&name, &first, TTL).await.unwrap();
    assert_eq!(node.release(&name, &first).await.unwrap(), Vote::Granted);
    node.acquire(&name, &second, TTL).await.unwrap();
    sleep(ms(501)).await;
    assert_eq!(node.inner().holder("a"), Some(second));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_lands_late_fails_at_once_and_may_have_happened() {
    let (node, name, value) = (node(), resource("a"), LockValue::random());
    let kind = BackendErrorKind::Unreachable;
    let after = ms(500);
    node.on(Operation::Acquire, Fault::LandLate { kind, after });
    let start = Instant::now();
    let error = node.acquire(&name, &value, TTL).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(error.kind(), kind);
    assert!(error.may_have_happened());
    sleep(ms(499)).await;
    assert_eq!(node.inner().held(), 0);
    sleep(ms(2)).await;
    assert_eq!(node.inner().holder("a"), Some(value));
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_lands_after_the_node_was_healed() {
    let (node, name, value) = (node(), resource("a"), LockValue::random());
    let kind = BackendErrorKind::Timeout;
    let after = ms(500);
    node.on(Operation::Acquire, Fault::LandLate { kind, after });
    assert!(node.acquire(&name, &value, TTL).await.is_err());
    node.heal();
    sleep(ms(501)).await;
    assert_eq!(node.inner().held(), 1);
}

/// In which order twenty requests land that are sent at once, and after how long the last.
async fn landing(seed: u64) -> (Vec<usize>, Duration) {
    let up_to = ms(500);
    let node = node();
    node.on_all(Fault::Reorder { seed, up_to });
    let start = Instant::now();
    let requests: Vec<_> = (0..20)
        .map(|number| {
            let node = node.clone();
            tokio::spawn(async move {
                let name = resource(&number.to_string());
                let vote = node.acquire(&name, &LockValue::random(), TTL).await;
                assert_eq!(vote.unwrap(), Vote::Granted);
                (Instant::now(), number)
            })
        })
        .collect();
    let mut landed = Vec::new();
    for request in requests {
        landed.push(request.await.unwrap());
    }
    landed.sort_unstable();
    let order = landed.into_iter().map(|(_, number)| number).collect();
    (order, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_order_and_another_seed_another() {
    let (order, took) = landing(7).await;
    assert!(!order.is_sorted(), "they overtake each other: {order:?}");
    assert!(took > ms(250), "the times are spread: {took:?}");
    // A timer of tokio fires up to one millisecond late.
    assert!(took <= ms(501), "{took:?}");
    assert_eq!(landing(7).await, (order.clone(), took));
    assert_ne!(landing(8).await.0, order);
}

#[tokio::test(start_paused = true)]
async fn a_reordered_request_lands_although_its_caller_has_gone() {
    let (node, name, value) = (node(), resource("a"), LockValue::random());
    let (seed, up_to) = (1, ms(500));
    node.on_all(Fault::Reorder { seed, up_to });
    let given_up = tokio::time::timeout(Duration::ZERO, node.acquire(&name, &value, TTL)).await;
    assert!(given_up.is_err());
    sleep(ms(501)).await;
    assert_eq!(node.inner().holder("a"), Some(value));
}
