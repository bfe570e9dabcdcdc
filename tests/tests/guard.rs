//! Servers that forget: plain Redlock lets two hold the same lock, and the restart guard does not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redlock::{
    Error, Fencing, FredNode, InvalidRequest, LockBackend, RedisNode, Redlock, SentinelNode,
    redis_rs::redis,
};
use redlock_test::{
    History,
    server::{RedisServer, SentinelGroup},
};
use tests::{pool, sentinels};
use tokio::time::sleep;

/// Long enough to restart servers meanwhile, and waited for.
const TTL: Duration = Duration::from_secs(8);

fn guarded(url: &str) -> RedisNode {
    let node = RedisNode::builder().restart_guard(TTL).open(url);
    node.expect("a URL")
}

fn guarded_fred(url: &str) -> FredNode {
    let node = FredNode::builder().restart_guard(TTL).open(url);
    node.expect("a URL")
}

/// A lock manager over nodes of one's own, as another process has it.
fn redlock<B: LockBackend>(servers: &[RedisServer], node: impl Fn(&str) -> B) -> Redlock {
    let nodes = servers.iter().map(|server| node(&server.url()));
    let redlock = Redlock::builder(nodes).node_timeout(Duration::from_secs(2));
    redlock.build().expect("distinct servers")
}

/// Waits until a lock is granted, such as at the end of a probation, and gives it back.
async fn works(redlock: &Redlock) {
    let start = Instant::now();
    loop {
        match redlock.try_acquire("warm", TTL).await {
            Ok(lock) => return lock.release().await.expect("it is ours"),
            Err(error) => assert!(start.elapsed() < 8 * TTL, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// One holds a lock on three nodes of five, of which two restart empty; another one tries to take it meanwhile.
/// Says whether the second was granted it while the first held it.
async fn second_holder(servers: &mut [RedisServer], first: &Redlock, second: &Redlock) -> bool {
    let history = History::new();
    for server in &servers[3..] {
        let _ = server.cli(&["SET", "a", "of somebody else"]);
    }
    let lock = first.try_acquire("a", TTL).await.expect("three grant it");
    let _first = history.locked("the first", &lock);
    for server in &mut servers[1..3] {
        server.restart();
    }
    for server in &servers[3..] {
        let _ = server.cli(&["DEL", "a"]);
    }
    let mut tried = 0;
    while lock.is_valid() {
        if let Ok(lock) = second.try_acquire("a", TTL).await {
            let _second = history.locked("the second", &lock);
            break;
        }
        tried += 1;
        sleep(Duration::from_millis(5)).await;
    }
    let overlap = !history.violations().is_empty();
    assert!(overlap || tried > 0, "too slow to show anything");
    let _ = lock.release().await;
    overlap
}

/// `plain` and `guarded` make a node.
async fn only_the_guard_excludes<B: LockBackend>(
    plain: impl Fn(&str) -> B,
    guarded: impl Fn(&str) -> B,
) {
    let mut overlap = false;
    // A machine may be too busy for it to happen before the first lock ends.
    for _ in 0..3 {
        let mut servers = RedisServer::start_many(5);
        let [first, second] = [(); 2].map(|()| redlock(&servers, &plain));
        overlap = second_holder(&mut servers, &first, &second).await;
        if overlap {
            break;
        }
    }
    assert!(
        overlap,
        "what plain Redlock cannot prevent has not happened"
    );

    let mut servers = RedisServer::start_many(5);
    let [first, second] = [(); 2].map(|()| redlock(&servers, &guarded));
    works(&first).await;
    works(&second).await;
    let overlap = second_holder(&mut servers, &first, &second).await;
    assert!(!overlap, "two held it at once");
    // And it is not for ever.
    works(&second).await;
    let lock = second.acquire("a", TTL).await.expect("the first has ended");
    lock.release().await.expect("it is ours");
}

#[tokio::test]
async fn redis_rs_two_nodes_of_three_that_hold_a_lock_restart_empty() {
    only_the_guard_excludes(|url| RedisNode::new(url).expect("a URL"), guarded).await;
}

#[tokio::test]
async fn fred_two_nodes_of_three_that_hold_a_lock_restart_empty() {
    only_the_guard_excludes(|url| FredNode::new(url).expect("a URL"), guarded_fred).await;
}

#[tokio::test]
async fn deadpool_two_nodes_of_three_that_hold_a_lock_restart_empty() {
    let guarded = |url: &str| {
        let pool = redlock::redis_rs::deadpool_redis::Config::from_url(url);
        let pool = pool.create_pool(None).expect("a URL");
        RedisNode::builder().name(url).restart_guard(TTL).pool(pool)
    };
    only_the_guard_excludes(|url| pool(url, 4), guarded).await;
}

/// One holds a lock in a group whose replica has not got it when the master dies; another one tries to
/// take it from the replica that was promoted.
async fn second_holder_after_failover(guarded: bool) -> bool {
    let ttl = 2 * TTL;
    let mut group = SentinelGroup::start();
    let redlock = || {
        let settings = RedisNode::builder();
        let settings = if guarded {
            settings.restart_guard(ttl)
        } else {
            settings
        };
        let node = SentinelNode::builder().settings(settings);
        let node = node.open(sentinels(&group), group.master_name());
        Redlock::new([node.expect("URLs")]).expect("a node")
    };
    let [first, second] = [redlock(), redlock()];
    if guarded {
        works(&first).await;
        works(&second).await;
    }
    let history = History::new();
    let lock = first.acquire("a", ttl).await.expect("it is free");
    let _first = history.locked("the first", &lock);
    let old = group.master();
    for replica in group
        .servers()
        .iter()
        .filter(|server| server.address() != old)
    {
        tests::eventually("it is replicated", || replica.cli(&["EXISTS", "a"]) == "1").await;
        let _ = replica.cli(&["CONFIG", "SET", "replica-read-only", "no"]);
        let _ = replica.cli(&["DEL", "a"]);
    }
    group.server_at(old).kill();
    while lock.is_valid() {
        if let Ok(lock) = second.try_acquire("a", ttl).await {
            let _second = history.locked("the second", &lock);
            break;
        }
    }
    let overlap = !history.violations().is_empty();
    let new = group.master_other_than(old);
    assert_ne!(new, old);
    if !overlap {
        works(&second).await;
    }
    overlap
}

#[tokio::test]
async fn sentinel_a_replica_that_lacks_the_lock_is_promoted() {
    // It takes a failover in good time.
    let mut shown = false;
    for _ in 0..3 {
        shown = shown || second_holder_after_failover(false).await;
    }
    assert!(shown, "nothing was shown");
    assert!(
        !second_holder_after_failover(true).await,
        "two held it at once"
    );
}

#[tokio::test]
async fn a_server_that_is_not_known_has_no_vote_and_says_for_how_long_but_one_that_is_has_it_at_once()
 {
    let server = [RedisServer::start()];
    let first = redlock(&server, guarded);
    let error = first
        .try_acquire("a", TTL)
        .await
        .expect_err("it is on probation");
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("without a vote for another"), "{text}");
    tests::eventually("what did not count is released", || {
        server[0].cli(&["EXISTS", "a"]) == "0"
    })
    .await;
    works(&first).await;
    // Another process, and another driver, find it known.
    let second = redlock(&server, guarded);
    let lock = second.try_acquire("b", TTL).await.expect("it is known");
    lock.release().await.expect("it is ours");
    let third = redlock(&server, guarded_fred);
    let lock = third.try_acquire("b", TTL).await.expect("it is known");
    lock.release().await.expect("it is ours");
    // Who uses longer leases has to wait for longer.
    let longer = |url: &str| {
        RedisNode::builder()
            .restart_guard(100 * TTL)
            .open(url)
            .expect("a URL")
    };
    let error = redlock(&server, longer).try_acquire("b", TTL).await;
    assert!(matches!(error, Err(Error::NoQuorum(_))));
}

#[tokio::test]
async fn a_server_that_lost_its_memory_otherwise_is_not_known_any_more() {
    let server = [RedisServer::start()];
    works(&redlock(&server, guarded)).await;
    let _ = server[0].cli(&["FLUSHALL"]);
    let error = redlock(&server, guarded).try_acquire("a", TTL).await;
    assert!(matches!(error, Err(Error::NoQuorum(_))));
}

#[tokio::test]
async fn a_master_that_was_a_replica_meanwhile_is_not_known_any_more() {
    let servers = RedisServer::start_many(2);
    let [master, other] = &servers[..] else {
        unreachable!()
    };
    works(&redlock(&servers[..1], guarded)).await;
    let port = master.address().port().to_string();
    let other_port = other.address().port().to_string();
    // The other one has its marker, takes its place without ever being looked at, and gives it back.
    let _ = other.cli(&["REPLICAOF", "127.0.0.1", &port]);
    tests::eventually("it is replicated", || {
        other.cli(&["EXISTS", "redlock:guard"]) == "1"
    })
    .await;
    let _ = other.cli(&["REPLICAOF", "NO", "ONE"]);
    let _ = other.cli(&["SET", "known", "1"]);
    let _ = master.cli(&["REPLICAOF", "127.0.0.1", &other_port]);
    tests::eventually("it is replicated", || {
        master.cli(&["EXISTS", "known"]) == "1"
    })
    .await;
    let _ = master.cli(&["REPLICAOF", "NO", "ONE"]);
    let error = redlock(&servers[..1], guarded).try_acquire("a", TTL).await;
    let error = error.expect_err("it may have lost what it granted last");
    assert!(error.to_string().contains("without a vote"), "{error}");
}

#[tokio::test]
async fn a_lock_that_is_held_is_not_extended_by_who_may_have_forgotten_a_later_one() {
    let mut servers = RedisServer::start_many(1);
    let redlock = redlock(&servers, guarded);
    works(&redlock).await;
    let mut lock = redlock.acquire("a", TTL).await.expect("it is free");
    servers[0].restart();
    let _ = servers[0].cli(&["SET", "a", lock.value().as_str(), "PX", "60000"]);
    let error = lock.extend(TTL).await.expect_err("it is on probation");
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert!(lock.is_valid(), "until its deadline");
}

#[tokio::test]
async fn where_a_vote_cannot_be_tied_to_a_connection_there_is_no_guard() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).expect("a URL");
    let connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let node = RedisNode::builder()
        .restart_guard(TTL)
        .connection(connection);
    let error = Redlock::new([node])
        .expect("a node")
        .try_acquire("a", TTL)
        .await;
    let error = error.expect_err("it has no vote");
    assert!(error.to_string().contains("restart guard"), "{error}");
    assert_eq!(server.cli(&["DBSIZE"]), "0");
    let cluster = RedisNode::builder()
        .restart_guard(TTL)
        .cluster([server.url()]);
    assert!(cluster.is_err());
    let cluster = FredNode::builder()
        .restart_guard(TTL)
        .open("redis-cluster://127.0.0.1:1");
    assert!(cluster.is_err());
    let masters = "redis-sentinel://127.0.0.1:1?sentinelServiceName=mymaster";
    assert!(
        FredNode::builder()
            .restart_guard(TTL)
            .open(masters)
            .is_err()
    );
    let error = redlock(&[server], guarded).try_acquire("a", 2 * TTL).await;
    assert!(matches!(
        error,
        Err(Error::Invalid(InvalidRequest::TtlBeyondGuard { .. }))
    ));
}

#[tokio::test]
async fn what_may_have_forgotten_tokens_stays_out_of_fenced_votes_for_longer() {
    let server = [RedisServer::start()];
    let url = server[0].url();
    let nodes: [Arc<dyn LockBackend>; 2] = [Arc::new(guarded(&url)), Arc::new(guarded_fred(&url))];
    for node in nodes {
        works(&Redlock::new([Arc::clone(&node)]).expect("a node")).await;
        let fenced = Redlock::builder([node]).fencing(Fencing::new()).build();
        let error = fenced.expect("it has tokens").try_acquire("a", TTL).await;
        let error = error.expect_err("it may have forgotten a greater token");
        assert!(
            error.to_string().contains("without a vote for another"),
            "{error}"
        );
    }
}
