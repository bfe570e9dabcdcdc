//! Real servers that hang, die, come back, or are never there.

use std::time::{Duration, Instant};

use redlock::{Error, RedisNode, Redlock};
use redlock_test::{proxy::Proxy, server::RedisServer};
use tests::{TTL, builder, calls, eventually, eventually_clean, nodes, redlock, warm};
use tokio::{
    runtime::{Builder, Runtime},
    select,
    task::yield_now,
    time::{sleep, timeout},
};

#[tokio::test]
async fn acquire_extend_release_and_contention() {
    for count in [1, 3, 5] {
        let servers = RedisServer::start_many(count);
        let redlock = redlock(&servers);
        for resources in [vec!["a"], vec!["a", "b", "c"]] {
            let mut lock = redlock.acquire(&resources, TTL).await.unwrap();
            let held = |server: &RedisServer| server.keys() == resources;
            eventually("all hold it", || servers.iter().all(held)).await;
            let error = redlock.try_acquire(&resources[..1], TTL).await.unwrap_err();
            assert!(matches!(error, Error::Locked(_)), "{error}");
            lock.extend(TTL * 2).await.unwrap();
            let ttl = u64::try_from(TTL.as_millis()).unwrap();
            let extended = |server: &RedisServer| {
                server
                    .cli(&["PTTL", "a"])
                    .parse()
                    .is_ok_and(|left: u64| left > ttl)
            };
            eventually("all are extended", || servers.iter().all(extended)).await;
            lock.release().await.unwrap();
            eventually_clean(&servers).await;
        }
    }
}

#[tokio::test]
async fn the_key_is_the_name_and_its_value_the_locks_unless_a_prefix_is_set() {
    let server = RedisServer::start();
    let node = RedisNode::builder()
        .key_prefix("lock:")
        .open(server.url())
        .unwrap();
    let redlock = Redlock::new([node]).unwrap();
    let lock = redlock.acquire(["a", "b"], TTL).await.unwrap();
    assert_eq!(server.keys(), ["lock:a", "lock:b"]);
    assert_eq!(server.cli(&["GET", "lock:a"]), lock.value().as_str());
    lock.release().await.unwrap();
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn names_of_every_kind_are_just_names() {
    let servers = RedisServer::start_many(3);
    let redlock = redlock(&servers);
    let long = "x".repeat(10_240);
    for name in [
        "a b",
        "schlüssel 🔑",
        "{tag}:1",
        "*",
        "h?llo[a-z]\\",
        "\r\n$5\0",
        &long,
    ] {
        let mut lock = redlock.acquire([name, "other"], TTL).await.unwrap();
        assert!(matches!(
            redlock.try_acquire(name, TTL).await,
            Err(Error::Locked(_))
        ));
        lock.extend(TTL).await.unwrap();
        lock.release().await.unwrap();
        let lock = redlock.acquire(name, TTL).await.unwrap();
        lock.release().await.unwrap();
    }
    eventually_clean(&servers).await;
}

#[tokio::test]
async fn one_node_refused_one_hung_and_one_killed_and_restarted_in_mid_lock() {
    let mut servers = RedisServer::start_many(5);
    let redlock = redlock(&servers);
    servers[0].kill();
    servers[1].pause();
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    lock.extend(TTL).await.unwrap();
    servers[1].resume();
    // Whether the fourth and the fifth were needed or not: three of five must still carry it.
    eventually("four hold it", || {
        servers[1..].iter().all(|server| !server.keys().is_empty())
    })
    .await;
    servers[2].kill();
    servers[2].restart();
    lock.extend(TTL).await.unwrap();
    lock.release().await.unwrap();
    servers[0].restart();
    eventually_clean(&servers).await;
}

#[tokio::test]
async fn two_of_three_hung_is_an_outage_in_bounded_time_and_leaves_nothing() {
    let servers = RedisServer::start_many(3);
    let redlock = builder(&servers)
        .node_timeout(Duration::from_millis(300))
        .retry_count(2)
        .build()
        .unwrap();
    // Once with connections that were open before, once with connections that must be dialled.
    for round in 0..2 {
        if round == 0 {
            warm(&redlock).await;
        }
        servers[0].pause();
        servers[1].pause();
        let outcome = timeout(Duration::from_secs(20), redlock.acquire("a", TTL)).await;
        let error = outcome.expect("never a hang").unwrap_err();
        assert!(matches!(error, Error::NoQuorum(_)), "{error}");
        servers[0].resume();
        servers[1].resume();
        eventually_clean(&servers).await;
    }
    eventually("the nodes vote again", || {
        servers.iter().all(|s| s.cli(&["PING"]) == "PONG")
    })
    .await;
    let lock = redlock
        .acquire_with_retry("a", TTL, [Duration::from_millis(500); 10])
        .await
        .unwrap();
    lock.release().await.unwrap();
}

#[tokio::test]
async fn a_redlock_is_built_and_used_while_a_minority_is_down_and_takes_it_in_later() {
    let mut servers = RedisServer::start_many(3);
    servers[2].kill();
    let redlock = redlock(&servers);
    redlock
        .try_acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    servers[2].restart();
    let start = Instant::now();
    loop {
        let lock = redlock.acquire("a", TTL).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        let there = !servers[2].keys().is_empty();
        lock.release().await.unwrap();
        if there {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the third node is never used"
        );
    }
    eventually_clean(&servers).await;
}

#[tokio::test]
async fn all_servers_restarted_while_idle_cost_no_attempt() {
    let mut servers = RedisServer::start_many(3);
    let redlock = redlock(&servers);
    redlock
        .acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    eventually_clean(&servers).await;
    for server in &mut servers {
        server.restart();
    }
    // The client sees the closed connections as soon as it gets to run.
    sleep(Duration::from_millis(100)).await;
    redlock
        .try_acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dropped_future_leaves_no_key_whenever_it_is_dropped() {
    let servers = RedisServer::start_many(3);
    let redlock = redlock(&servers);
    warm(&redlock).await;
    servers[1].pause();
    for number in 0..100 {
        let moment = Duration::from_micros(number * 20);
        drop(timeout(moment, redlock.try_acquire(format!("r{number}"), TTL)).await);
    }
    servers[1].resume();
    eventually_clean(&servers).await;
}

#[tokio::test]
async fn a_set_that_lands_after_its_connection_was_given_up_leaves_no_ghost_lock() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let node = RedisNode::builder()
        .response_timeout(Duration::from_secs(1))
        .open(proxy.url())
        .unwrap();
    let within = |node_timeout| {
        let builder = Redlock::builder([node.clone()]).retry_count(0);
        builder.node_timeout(node_timeout).build().unwrap()
    };
    let redlock = within(Duration::from_secs(15));
    warm(&redlock).await;

    // Its route is gone; a new connection has another one.
    proxy.stall();
    let hasty = within(Duration::from_millis(100));
    let error = hasty.acquire("ghost", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    eventually("a new connection works", || proxy.open() >= 2).await;
    sleep(Duration::from_millis(1200)).await;
    let other = redlock.acquire("other", TTL).await.unwrap();
    assert_eq!(
        server.keys(),
        ["other"],
        "nothing of the ghost has landed yet"
    );

    proxy.resume();
    eventually("the late SET has landed", || calls(&server, "set") == 3).await;
    other.release().await.unwrap();
    eventually_clean(std::slice::from_ref(&server)).await;
    assert_eq!(server.cli(&["TTL", "ghost"]), "-2");
}

#[tokio::test]
async fn a_lock_whose_future_was_dropped_on_a_stalled_connection_leaves_no_ghost() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let redlock = Redlock::new(nodes([proxy.url()])).unwrap();
    warm(&redlock).await;
    proxy.stall();
    let attempt = redlock.acquire("ghost", TTL);
    assert!(timeout(Duration::from_millis(50), attempt).await.is_err());
    sleep(Duration::from_secs(2)).await;
    proxy.resume();
    eventually("the late SET has landed", || calls(&server, "set") == 2).await;
    eventually_clean(std::slice::from_ref(&server)).await;
}

#[tokio::test]
async fn a_half_open_connection_is_given_up_and_replaced() {
    let servers = RedisServer::start_many(3);
    let mut proxies = Vec::new();
    for server in &servers {
        proxies.push(Proxy::start(server.address()).await.unwrap());
    }
    let redlock = Redlock::new(nodes(proxies.iter().map(Proxy::url))).unwrap();
    redlock
        .acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    for proxy in &proxies {
        proxy.stall();
    }
    let lock = redlock
        .acquire_with_retry("a", TTL, [Duration::from_millis(300); 10])
        .await
        .unwrap();
    lock.release().await.unwrap();
}

#[tokio::test]
async fn a_connection_in_doubt_costs_other_locks_nothing() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let redlock = Redlock::builder(nodes([proxy.url()]))
        .retry_count(0)
        .build()
        .unwrap();
    warm(&redlock).await;
    proxy.stall();
    assert!(redlock.acquire("ghost", TTL).await.is_err());
    let patience = [Duration::from_millis(200); 20];
    redlock
        .acquire_with_retry("new connection", TTL, patience)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let scripts = calls(&server, "evalsha");
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    for number in 0..500 {
        let lock = redlock.acquire(format!("r{number}"), TTL).await.unwrap();
        lock.release().await.unwrap();
    }
    let left = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert!(left < tasks + 50, "{tasks} tasks before, {left} after");
    proxy.resume();
    eventually_clean(std::slice::from_ref(&server)).await;
    let scripts = calls(&server, "evalsha") - scripts;
    assert!(scripts < 550, "{scripts} scripts for 500 releases");
}

#[tokio::test]
async fn a_node_that_accepts_connections_but_does_not_serve_is_not_dialled_by_every_attempt() {
    let master = RedisServer::start();
    let port = master.address().port().to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    let redlock = redlock(std::slice::from_ref(&replica));
    let start = Instant::now();
    for _ in 0..400 {
        assert!(redlock.try_acquire("a", TTL).await.is_err());
    }
    let stats = replica.cli(&["INFO", "stats"]);
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    let dials: u128 = line.unwrap().trim().parse().unwrap();
    assert!(
        dials < 20 + start.elapsed().as_millis() / 50,
        "{dials} dials"
    );
}

#[test]
fn the_nodes_outlive_a_runtime() {
    let servers = RedisServer::start_many(3);
    let redlock = redlock(&servers);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let lock = first.block_on(redlock.acquire("a", TTL)).unwrap();
    drop(first);
    let second = runtime();
    second.block_on(lock.release()).unwrap();
    drop(second);

    // A runtime that is alive but not driven has begun to dial, and no more: undriven, it undoes nothing.
    let idle = runtime();
    let fresh = tests::redlock(&servers);
    idle.block_on(async {
        select! {
            biased;
            _ = fresh.try_acquire("b", TTL) => unreachable!(),
            () = yield_now() => {}
        }
    });
    assert!(idle.metrics().num_alive_tasks() > 0, "nobody dials");
    let begun = |server: &RedisServer| server.keys().iter().any(|key| key == "b");
    assert!(!servers.iter().any(begun), "more than dialled");
    runtime().block_on(async {
        let patience = [Duration::from_millis(300); 20];
        let lock = fresh.acquire_with_retry("b", TTL, patience).await.unwrap();
        lock.release().await.unwrap();
    });
    drop(idle);
}

#[tokio::test]
async fn servers_without_resp3_or_evalsha_work() {
    for renamed in ["HELLO", "EVALSHA"] {
        let server = RedisServer::start_with(&["--rename-command", renamed, ""]);
        let redlock = redlock(std::slice::from_ref(&server));
        let mut lock = redlock.acquire(["a", "b"], TTL).await.unwrap();
        lock.extend(TTL).await.unwrap();
        lock.release().await.unwrap();
    }
}

#[test]
fn releases_are_repeated_when_the_runtime_ends_that_read_the_connection() {
    let server = RedisServer::start();
    let redlock = redlock(std::slice::from_ref(&server));
    let first = Runtime::new().unwrap();
    let mut second = Builder::new_current_thread();
    let second = second.enable_all().build().unwrap();
    first.block_on(warm(&redlock));
    second.block_on(async {
        let mut locks = Vec::new();
        for number in 0..20 {
            locks.push(redlock.acquire(format!("r{number}"), TTL).await.unwrap());
        }
        server.pause();
        let releasing: Vec<_> = locks
            .into_iter()
            .map(|lock| tokio::spawn(lock.release()))
            .collect();
        // Asked, as one thread runs all of them.
        yield_now().await;
        first.shutdown_background();
        for released in releasing {
            let _ = released.await.unwrap();
        }
        server.resume();
        eventually_clean(std::slice::from_ref(&server)).await;
    });
}

#[test]
fn a_new_connection_is_not_dialled_on_a_runtime_that_ends() {
    let server = RedisServer::start();
    let redlock = redlock(std::slice::from_ref(&server));
    let first = Runtime::new().unwrap();
    let mut second = Builder::new_current_thread();
    let second = second.enable_all().build().unwrap();
    first.block_on(warm(&redlock));
    second.block_on(async {
        let lock = redlock.acquire("a", TTL).await.unwrap();
        server.pause();
        let releasing = tokio::spawn(lock.release());
        yield_now().await;
        first.shutdown_background();
        let _ = releasing.await.unwrap();
        server.resume();
        let mut acquired = redlock.try_acquire("b", TTL).await;
        while let Err(error) = acquired {
            // Not that somebody else's dial was.
            assert!(!error.to_string().contains("cancelled"), "{error}");
            sleep(Duration::from_millis(10)).await;
            acquired = redlock.try_acquire("b", TTL).await;
        }
    });
}
