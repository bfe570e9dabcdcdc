//! Servers that hang, die and come back, and networks that lose what they carry.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use common::{
    TTL, alone, bad_client, bad_pool, before_cluster, calls, cluster_url, dials, eventually,
    eventually_clean, nodes, works, works_again,
};
use futures_util::future::join_all;
use redlock_core::{Error, LockBackend, LockValue, Redlock, Reply, Resources, Vote};
use redlock_fred::{FredNode, FredNodeBuilder};
use redlock_test::{
    proxy::Proxy,
    server::{RedisCluster, RedisServer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};

/// Notices silence soon.
fn quick() -> FredNodeBuilder {
    let quick = Duration::from_millis(300);
    FredNode::builder()
        .response_timeout(quick)
        .connect_timeout(quick)
}

async fn warm(redlock: &Redlock) {
    works(redlock, &["warm"]).await;
}

/// A node of each kind at this URL.
fn every_kind(builder: FredNodeBuilder, url: &str) -> [FredNode; 3] {
    [
        builder.clone().open(url).unwrap(),
        builder.clone().client(&bad_client(url)).unwrap(),
        builder.pool(&bad_pool(url, 2)).unwrap(),
    ]
}

/// Lets the server execute an acquire, loses its reply, and cuts the connection; a new one works.
async fn loses_the_reply(server: &RedisServer, proxy: &Proxy, node: FredNode) {
    works_again(&alone(node.clone()), "b").await;
    let before = calls(server, "set");
    proxy.lose_replies();
    let value = LockValue::random();
    let resources = Resources::new(["b"]).unwrap();
    let attempt = {
        let (node, resources, value) = (node.clone(), resources.clone(), value.clone());
        tokio::spawn(async move { node.acquire(&resources, &value, TTL).await })
    };
    eventually("the server has executed it", || {
        calls(server, "set") > before
    })
    .await;
    proxy.cut();
    // The client pauses for longer than this before it connects again.
    sleep(Duration::from_millis(20)).await;
    proxy.resume();
    let error = attempt.await.unwrap().unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    sleep(Duration::from_millis(500)).await;
    assert_eq!(calls(server, "set"), before + 1);
    while node.release(&resources, &value).await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn an_acquire_is_never_sent_twice_when_its_reply_is_lost() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    for node in every_kind(FredNode::builder(), &proxy.url()) {
        loses_the_reply(&server, &proxy, node).await;
    }
}

#[tokio::test]
async fn nor_in_a_cluster() {
    let cluster = RedisCluster::start();
    let proxies = before_cluster(cluster.members()).await;
    // The first member has the slot of the resource.
    let (server, proxy) = (&cluster.members()[0], &proxies[0]);
    for node in every_kind(FredNode::builder(), &cluster_url(&proxy.url())) {
        loses_the_reply(server, proxy, node).await;
    }
}

#[tokio::test]
async fn a_half_open_connection_is_replaced() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    for node in every_kind(quick(), &proxy.url()) {
        // Every operation is dropped long before the response timeout.
        let redlock = Redlock::builder([node]).retry_count(0);
        let redlock = redlock
            .node_timeout(Duration::from_millis(50))
            .build()
            .unwrap();
        works_again(&redlock, "a").await;
        proxy.stall();
        works_again(&redlock, "b").await;
    }
}

#[tokio::test]
async fn a_half_open_connection_to_one_member_of_a_cluster_is_replaced() {
    let cluster = RedisCluster::start();
    let proxies = before_cluster(cluster.members()).await;
    for node in every_kind(quick(), &cluster_url(&proxies[1].url())) {
        let redlock = alone(node);
        // What stalled for the node before has also stalled for this one.
        works_again(&redlock, "b").await;
        works_again(&redlock, "a").await;
        proxies[0].stall();
        works_again(&redlock, "b").await;
        works_again(&redlock, "a").await;
    }
}

#[tokio::test]
async fn a_set_that_lands_after_its_release_leaves_no_ghost_lock() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let resources = Resources::new(["ghost"]).unwrap();
    for node in every_kind(quick(), &proxy.url()) {
        works_again(&alone(node.clone()), "warm").await;
        let value = LockValue::random();
        let open = proxy.open();
        proxy.stall();
        let asked = node.acquire(&resources, &value, TTL);
        assert!(timeout(Duration::from_millis(50), asked).await.is_err());
        // Written to the old connection, a release would wait there behind the SET.
        while proxy.open() <= open {
            let _ = node.extend(&resources, &value, TTL).await;
            sleep(Duration::from_millis(10)).await;
        }
        while node.release(&resources, &value).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        let before = calls(&server, "set");
        proxy.resume();
        eventually("the late SET has landed", || calls(&server, "set") > before).await;
        eventually_clean(std::slice::from_ref(&server)).await;
    }
}

#[tokio::test]
async fn sets_of_one_moment_that_land_after_their_releases_leave_no_ghost_lock() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let node = quick().open(proxy.url()).unwrap();
    works_again(&alone(node.clone()), "warm").await;
    let open = proxy.open();
    proxy.stall();
    let names: Vec<_> = ('a'..='z')
        .map(|name| Resources::new([name.to_string()]).unwrap())
        .collect();
    let locks: Vec<_> = names
        .iter()
        .map(|name| (name, LockValue::random()))
        .collect();
    let asked = locks.iter().map(|(name, value)| {
        let node = node.clone();
        async move {
            let (reply, answer) = Reply::new();
            match node.begin_acquire(name, value, TTL, reply) {
                Ok(()) => answer.await,
                Err(_) => node.acquire(name, value, TTL).await,
            }
        }
    });
    for answer in join_all(asked).await {
        let error = answer.expect_err("nobody answers");
        assert!(error.may_have_happened(), "{error}");
    }
    // Written to the old connection, a release would wait there behind the SET.
    while proxy.open() <= open {
        let _ = node.extend(locks[0].0, &locks[0].1, TTL).await;
        sleep(Duration::from_millis(10)).await;
    }
    for (name, value) in &locks {
        while node.release(name, value).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    }
    let before = calls(&server, "set");
    proxy.resume();
    eventually("the late SETs have landed", || {
        calls(&server, "set") == before + 26
    })
    .await;
    eventually_clean(std::slice::from_ref(&server)).await;
}

#[tokio::test]
async fn an_acquire_that_was_dropped_leaves_no_key_whenever_it_is_dropped() {
    let servers = RedisServer::start_many(3);
    let redlock = Redlock::new(nodes(servers.iter().map(RedisServer::url))).unwrap();
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
async fn an_acquire_that_was_not_sent_does_not_land_later() {
    let mut server = RedisServer::start();
    let node = quick().open(server.url()).unwrap();
    let redlock = alone(node.clone());
    warm(&redlock).await;
    let before = calls(&server, "set");
    let resources = Resources::new(["late"]).unwrap();
    server.kill();
    let value = LockValue::random();
    let asked = node.acquire(&resources, &value, TTL);
    assert!(asked.await.is_err());
    server.restart();
    works_again(&redlock, "other").await;
    assert_eq!(server.cli(&["EXISTS", "late"]), "0");
    // A restart begins to count anew.
    assert!(before > 0 && calls(&server, "set") == 1);
}

#[tokio::test]
async fn a_server_that_answers_late_keeps_its_connections() {
    let server = RedisServer::start();
    let patient = FredNode::builder().response_timeout(Duration::from_secs(2));
    let nodes = every_kind(patient, &server.url());
    for node in &nodes {
        works(&alone(node.clone()), &["a"]).await;
    }
    let before = dials(&server);
    let resources = Resources::new(["late"]).unwrap();
    let value = LockValue::random();
    server.pause();
    for node in &nodes {
        let asked = node.acquire(&resources, &value, TTL);
        assert!(timeout(Duration::from_millis(10), asked).await.is_err());
    }
    // It is silent for longer than it may be, but answers the PING that is then sent.
    sleep(Duration::from_millis(2400)).await;
    server.resume();
    sleep(Duration::from_secs(1)).await;
    for node in &nodes {
        let _ = node.release(&resources, &value).await.unwrap();
    }
    assert_eq!(dials(&server), before + 1);
}

#[tokio::test]
async fn a_hung_server_costs_bounded_time_and_is_used_again() {
    let server = RedisServer::start();
    for node in every_kind(quick(), &server.url()) {
        let resources = Resources::new(["a"]).unwrap();
        let redlock = alone(node.clone());
        warm(&redlock).await;
        server.pause();
        for _ in 0..3 {
            let start = Instant::now();
            let value = LockValue::random();
            assert!(node.acquire(&resources, &value, TTL).await.is_err());
            assert!(node.release(&resources, &value).await.is_err());
            assert!(
                start.elapsed() < Duration::from_secs(3),
                "{:?}",
                start.elapsed()
            );
        }
        server.resume();
        works_again(&redlock, "b").await;
        eventually_clean(std::slice::from_ref(&server)).await;
    }
}

#[tokio::test]
async fn a_server_that_was_down_at_first_killed_and_restarted_is_used_again() {
    let mut server = RedisServer::start();
    server.kill();
    let own = alone(quick().open(server.url()).unwrap());
    let start = Instant::now();
    assert!(matches!(
        own.acquire("a", TTL).await,
        Err(Error::NoQuorum(_))
    ));
    assert!(
        start.elapsed() < Duration::from_millis(400),
        "refused at once"
    );
    server.restart();
    works_again(&own, "a").await;
    let given = bad_client(&server.url());
    let given = alone(quick().client(&given).unwrap());
    works(&given, &["a"]).await;
    server.kill();
    for redlock in [&own, &given] {
        assert!(matches!(
            redlock.acquire("a", TTL).await,
            Err(Error::NoQuorum(_))
        ));
    }
    server.restart();
    works_again(&own, "a").await;
    works_again(&given, "a").await;
}

#[tokio::test]
async fn servers_restarted_while_idle_cost_no_attempt() {
    let mut server = RedisServer::start();
    let redlock = alone(FredNode::new(server.url()).unwrap());
    warm(&redlock).await;
    server.restart();
    sleep(Duration::from_millis(100)).await;
    works(&redlock, &["a"]).await;
}

#[tokio::test]
async fn a_cluster_that_was_down_is_found_again() {
    let mut cluster = RedisCluster::start();
    let url = cluster_url(&cluster.urls()[0]);
    let nodes = every_kind(quick(), &url).map(alone);
    for redlock in &nodes {
        works(redlock, &["a"]).await;
    }
    cluster.members_mut().iter_mut().for_each(RedisServer::kill);
    for redlock in &nodes {
        let error = redlock.acquire("a", TTL).await.unwrap_err();
        assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    }
    cluster
        .members_mut()
        .iter_mut()
        .for_each(RedisServer::restart);
    for redlock in &nodes {
        works_again(redlock, "a").await;
    }
}

#[tokio::test]
async fn a_server_that_became_read_only_is_left_but_not_dialled_by_every_attempt() {
    let master = RedisServer::start();
    let server = RedisServer::start();
    let own: FredNode = quick().open(server.url()).unwrap();
    let given = bad_client(&server.url());
    let nodes = [own, quick().client(&given).unwrap()].map(alone);
    for redlock in &nodes {
        works(redlock, &["a"]).await;
    }
    let port = master.address().port().to_string();
    assert_eq!(server.cli(&["REPLICAOF", "127.0.0.1", &port]), "OK");
    let (before, start) = (dials(&server), Instant::now());
    while start.elapsed() < Duration::from_secs(1) {
        for redlock in &nodes {
            assert!(redlock.try_acquire("b", TTL).await.is_err());
        }
    }
    let dialled = dials(&server) - before;
    assert!((2..30).contains(&dialled), "{dialled} dials in a second");
    assert_eq!(server.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    for redlock in &nodes {
        works_again(redlock, "b").await;
    }
}

/// A port that accepts connections and never says anything, or closes them upon what it is told to dislike.
async fn odd_server(dislikes: Option<&'static str>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let text = String::from_utf8_lossy(&bytes[..count]);
                    match dislikes {
                        Some(dislikes) if text.contains(dislikes) => break,
                        Some(_) => stream.write_all(b"+PONG\r\n").await.unwrap(),
                        None => {}
                    }
                }
            });
        }
    });
    (address, accepted)
}

#[tokio::test]
async fn a_seed_of_a_cluster_that_hangs_costs_nothing_but_time() {
    let cluster = RedisCluster::start();
    let good = cluster.members()[0].address();
    // fred asks the seeds in the order of their names.
    for (host, seed) in [("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")] {
        let (address, accepted) = odd_server(None).await;
        let port = address.rsplit(':').next().unwrap();
        let url = format!(
            "redis-cluster://{host}:{port}?node={seed}:{}&node={seed}:{}",
            good.port(),
            cluster.members()[1].address().port()
        );
        let redlock = Redlock::builder(nodes([url])).retry_count(0);
        let redlock = redlock
            .node_timeout(Duration::from_secs(2))
            .build()
            .unwrap();
        let start = Instant::now();
        works(&redlock, &["a"]).await;
        assert!(start.elapsed() < Duration::from_secs(1), "connect_timeout");
        assert_eq!(accepted.load(SeqCst), usize::from(host == "127.0.0.1"));
    }
}

#[tokio::test]
async fn a_server_that_closes_upon_the_command_is_dialled_with_pauses() {
    let (address, accepted) = odd_server(Some("PX")).await;
    let node = FredNode::new(format!("redis://{address}")).unwrap();
    let resources = Resources::new(["a"]).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let asked = node.acquire(&resources, &LockValue::random(), TTL).await;
        assert!(asked.is_err());
    }
    let dialled = accepted.load(SeqCst);
    assert!((2..10).contains(&dialled), "{dialled} dials in a second");
}

#[test]
fn a_dial_on_a_runtime_that_nobody_drives_is_replaced() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    };
    let server = RedisServer::start();
    let node = quick().open(server.url()).unwrap();
    let (idle, driven) = (runtime(), runtime());
    server.pause();
    idle.block_on(async {
        let redlock = alone(node.clone());
        let asked = redlock.acquire("a", TTL);
        assert!(timeout(Duration::from_millis(50), asked).await.is_err());
    });
    server.resume();
    driven.block_on(async {
        let resources = Resources::new(["b"]).unwrap();
        let start = Instant::now();
        let vote = node.acquire(&resources, &LockValue::random(), TTL).await;
        assert_eq!(vote.unwrap(), Vote::Granted);
        assert!(start.elapsed() < Duration::from_secs(1));
    });
    drop(idle);
}

#[tokio::test]
async fn a_node_that_is_dropped_while_an_acquire_is_in_doubt_leaves_no_connection() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let node = quick().open(proxy.url()).unwrap();
    warm(&alone(node.clone())).await;
    proxy.stall();
    let (resources, value) = (Resources::new(["a"]).unwrap(), LockValue::random());
    assert!(node.acquire(&resources, &value, TTL).await.is_err());
    while node.release(&resources, &value).await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
    // Only the new connection has released; the one that stalls is the proxy's to close.
    let releasing = || server.cli(&["CLIENT", "LIST"]).matches("cmd=eval").count();
    assert_eq!(releasing(), 2);
    drop(node);
    eventually("its connection is closed", || releasing() <= 1).await;
}
