//! Giving a lock back, by call and by drop, on the paused clock.

mod common;

use std::{thread, time::Duration};

use common::*;
use redlock_core::{BackendErrorKind, Error, LockValue, MemoryBackend, Redlock};
use redlock_test::{Fault, Operation};
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep, timeout},
};

#[tokio::test(start_paused = true)]
async fn a_release_frees_all_nodes_and_tells_that_the_lock_was_ours() {
    let nodes = nodes(5);
    let redlock = redlock(&nodes);
    redlock
        .acquire(["a", "b"], TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    eventually("released", || {
        nodes.iter().all(|node| node.inner().held() == 0)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_late_release_never_frees_the_next_holder() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let first = redlock.acquire("a", ms(100)).await.unwrap();
    let value = first.value().clone();
    sleep(ms(100)).await;
    let next = redlock.acquire("a", TTL).await.unwrap();
    assert!(matches!(first.release().await, Err(Error::Lost(_))));
    assert!(matches!(
        redlock.release("a", value).await,
        Err(Error::Lost(_))
    ));
    let released = |node: &Node| node.count(Operation::Release) == 2;
    eventually("all were asked to release", || nodes.iter().all(released)).await;
    assert!(
        nodes
            .iter()
            .all(|node| node.inner().holder("a").as_ref() == Some(next.value()))
    );
}

#[tokio::test(start_paused = true)]
async fn releasing_an_expired_lock_is_one_quick_round_that_says_lost() {
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    sleep(TTL * 2).await;
    let start = Instant::now();
    assert!(matches!(lock.release().await, Err(Error::Lost(_))));
    assert_eq!(start.elapsed(), Duration::ZERO);
    sleep(TTL).await;
    assert!(nodes.iter().all(|node| node.count(Operation::Release) == 1));
}

#[tokio::test(start_paused = true)]
async fn between_our_deadline_and_the_nodes_a_release_frees_and_says_lost() {
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    sleep(ms(9_950)).await;
    assert!(matches!(lock.release().await, Err(Error::Lost(_))));
    eventually("freed", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_times_out_is_unknown_not_lost() {
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    nodes[0].on(Operation::Release, HUNG);
    nodes[1].on(Operation::Release, HUNG);
    let start = Instant::now();
    let error = lock.release().await.unwrap_err();
    assert!(
        matches!(&error, Error::NoQuorum(votes) if votes.failed() == 2),
        "{error}"
    );
    assert_eq!(start.elapsed(), NODE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_minority_that_could_not_be_reached_is_released_when_it_can() {
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    nodes[0].on(
        Operation::Release,
        Fault::Fail(BackendErrorKind::Unreachable),
    );
    lock.release().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(holding(&nodes, "a"), 1);
    nodes[0].heal();
    eventually("released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_be_delivered_ends_with_the_cleanup_timeout() {
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL * 60).await.unwrap();
    nodes[0].on(Operation::Release, Fault::Down);
    lock.release().await.unwrap();
    sleep(Duration::from_secs(31)).await;
    let asked = nodes[0].count(Operation::Release);
    sleep(TTL * 60).await;
    assert_eq!(nodes[0].count(Operation::Release), asked);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_release_at_any_moment_releases_all_the_same() {
    for dropped_after in (0..120).step_by(10) {
        let nodes = nodes(3);
        for node in &nodes {
            node.on(
                Operation::Release,
                Fault::Delay {
                    request: ms(50),
                    reply: ms(50),
                },
            );
        }
        let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
        drop(timeout(ms(dropped_after), lock.release()).await);
        eventually("released", || holding(&nodes, "a") == 0).await;
    }
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    drop(lock.release());
    eventually("released although never polled", || {
        holding(&nodes, "a") == 0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_lock_releases_in_the_background_once() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    drop(redlock.acquire("a", TTL).await.unwrap());
    eventually("released", || holding(&nodes, "a") == 0).await;
    redlock
        .acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    sleep(TTL).await;
    assert!(nodes.iter().all(|node| node.count(Operation::Release) == 2));
}

#[tokio::test(start_paused = true)]
async fn a_callers_panic_releases() {
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let task = tokio::spawn(async move {
        let _held = lock;
        panic!("on purpose");
    });
    assert!(task.await.is_err());
    eventually("released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn releasing_by_a_value_that_holds_nothing_is_lost() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let _held = redlock.acquire("a", TTL).await.unwrap();
    let stranger = LockValue::random();
    assert!(matches!(
        redlock.release("a", stranger).await,
        Err(Error::Lost(_))
    ));
    eventually("all were asked", || {
        nodes.iter().all(|node| node.calls().len() == 2)
    })
    .await;
    assert_eq!(holding(&nodes, "a"), 3);
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_lock_dropped_outside_of_a_runtime_is_released_on_its_own() {
    let runtime = runtime();
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let lock = runtime.block_on(redlock.acquire("a", TTL * 60)).unwrap();
    thread::spawn(move || drop(lock)).join().unwrap();
    runtime.block_on(eventually("released", || holding(&nodes, "a") == 0));
}

#[test]
fn a_lock_that_outlives_its_runtime_is_dropped_without_a_panic() {
    let runtime = runtime();
    let nodes = nodes(3);
    let lock = runtime.block_on(redlock(&nodes).acquire("a", TTL)).unwrap();
    runtime.block_on(eventually("all hold it", || holding(&nodes, "a") == 3));
    runtime.shutdown_background();
    drop(lock);
    assert_eq!(holding(&nodes, "a"), 3, "the ttl frees it");
}

#[test]
fn a_runtime_ends_with_locks_alive_and_calls_under_way() {
    for flavour in [Builder::new_current_thread, Builder::new_multi_thread] {
        let runtime = flavour().enable_all().build().unwrap();
        let nodes = nodes(3);
        nodes[0].on(Operation::Release, HUNG);
        nodes[1].on(Operation::Acquire, late(20));
        runtime.block_on(async {
            let redlock = redlock(&nodes);
            for number in 0..200 {
                let redlock = redlock.clone();
                tokio::spawn(async move {
                    let held = redlock.acquire(format!("r{number}"), TTL).await;
                    if number % 2 == 0 {
                        drop(held);
                    } else {
                        sleep(Duration::from_secs(3600)).await;
                        drop(held);
                    }
                });
            }
            sleep(ms(30)).await;
        });
        drop(runtime);
    }
}

#[tokio::test]
async fn locks_survive_the_end_of_the_redlock_they_came_from() {
    let node = MemoryBackend::new();
    let redlock = Redlock::new([node.clone()]).unwrap();
    let lock = redlock.acquire("a", TTL).await.unwrap();
    drop(redlock);
    lock.release().await.unwrap();
    assert_eq!(node.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn releasing_an_expired_lock_during_an_outage_is_lost_all_the_same() {
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    sleep(TTL).await;
    nodes.iter().for_each(|node| node.on_all(Fault::Down));
    let error = lock.release().await.unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    assert!(
        error.to_string().contains("its deadline has passed"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hung_extension_does_not_hold_up_the_release() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    for node in &nodes {
        node.once(Operation::Extend, Fault::LoseReply);
    }
    assert!(lock.extend(TTL).await.is_err());
    let start = Instant::now();
    lock.release().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    eventually("released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_is_sent_however_long_the_extension_before_it_may_take() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes)
        .acquire("a", Duration::from_secs(1))
        .await
        .unwrap();
    for node in &nodes {
        node.once(Operation::Extend, Fault::LoseReply);
        node.once(Operation::Release, Fault::Fail(BackendErrorKind::Server));
    }
    assert!(lock.extend(Duration::from_secs(60)).await.is_err());
    drop(lock.release().await);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_request_is_lost_is_sent_again() {
    let nodes = nodes(3);
    let lock = redlock(&nodes).acquire("a", TTL * 60).await.unwrap();
    eventually("all hold it", || holding(&nodes, "a") == 3).await;
    nodes[0].once(Operation::Release, Fault::LoseRequest);
    lock.release().await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_short_extension_does_not_shorten_the_clean_up_of_a_long_lock() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL * 6).await.unwrap();
    lock.extend(ms(200)).await.unwrap();
    nodes[0].on(
        Operation::Release,
        Fault::Fail(BackendErrorKind::Unreachable),
    );
    lock.release().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    nodes[0].heal();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sick_node_is_not_flooded_with_releases() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    nodes[0].on(Operation::Release, Fault::Fail(BackendErrorKind::Server));
    for number in 0..100 {
        let lock = redlock
            .acquire(format!("r{number}"), TTL * 3)
            .await
            .unwrap();
        lock.release().await.unwrap();
    }
    sleep(TTL * 20).await;
    let asked = nodes[0].count(Operation::Release);
    assert!(asked < 100 * 25, "{asked}");
}

#[test]
fn a_lock_whose_runtime_has_ended_is_released_on_the_one_where_it_is_dropped() {
    let (first, second) = (runtime(), runtime());
    let nodes = nodes(3);
    let lock = first
        .block_on(redlock(&nodes).acquire("a", TTL * 60))
        .unwrap();
    first.block_on(eventually("all hold it", || holding(&nodes, "a") == 3));
    first.shutdown_background();
    second.block_on(async {
        drop(lock);
        eventually("released", || holding(&nodes, "a") == 0).await;
    });
}

#[test]
fn every_node_was_asked_when_a_release_returns() {
    let nodes = nodes(5);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
        assert_eq!(holding(&nodes, "a"), 5);
        lock.release().await.unwrap();
    });
    drop(runtime);
    assert_eq!(holding(&nodes, "a"), 0);
}
