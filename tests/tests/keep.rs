//! Locks kept alive on real servers that die, one after another and three at once.

use std::time::{Duration, Instant};

use redlock_test::server::RedisServer;
use tests::{builder, eventually, eventually_clean};
use tokio::time::sleep;

const TTL: Duration = Duration::from_secs(3);

/// Nobody is slow here, but may be starved.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_a_minute_nodes_are_killed_and_restarted_one_after_another_and_it_is_never_lost() {
    let mut servers = RedisServer::start_many(5);
    let redlock = builder(&servers)
        .node_timeout(NODE_TIMEOUT)
        .build()
        .unwrap();
    let kept = redlock.acquire("a", 2 * TTL).await.unwrap().keep_alive();
    let start = Instant::now();
    let mut turn = 0;
    while start.elapsed() < Duration::from_secs(60) {
        let server = turn % servers.len();
        servers[server].kill();
        sleep(Duration::from_millis(300)).await;
        servers[server].restart();
        // Not the next one before this one is whole again: never two at once.
        let server = &servers[server];
        eventually("the restarted node holds it again", || {
            server.keys() == ["a"]
        })
        .await;
        assert!(!kept.is_lost(), "after {turn} restarts");
        turn += 1;
    }
    assert!(turn >= 10, "only {turn} restarts in a minute");
    for server in &servers {
        assert_eq!(server.cli(&["GET", "a"]), kept.value().as_str());
    }
    kept.release().await.unwrap();
    eventually_clean(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_three_of_five_killed_the_holder_is_told_before_anybody_else_can_acquire() {
    for round in 0..3 {
        let mut servers = RedisServer::start_many(5);
        let redlock = builder(&servers)
            .node_timeout(NODE_TIMEOUT)
            .build()
            .unwrap();
        let kept = redlock.acquire("a", TTL).await.unwrap().keep_alive();
        let signal = kept.signal();
        sleep(TTL + Duration::from_millis(130 * round)).await;
        assert!(!signal.is_lost());
        for server in &mut servers[..3] {
            server.kill();
        }
        let others = tokio::spawn({
            let redlock = redlock.clone();
            async move {
                let patience = std::iter::repeat(Duration::from_millis(5));
                let lock = redlock.acquire_with_retry("a", TTL, patience).await;
                (lock, signal.is_lost())
            }
        });
        // Empty, but not before the longest ttl is over.
        sleep(TTL).await;
        for server in &mut servers[..3] {
            server.restart();
        }
        let (lock, told) = others.await.unwrap();
        assert!(told, "two holders");
        lock.unwrap().release().await.unwrap();
        assert!(kept.release().await.is_err());
    }
}
