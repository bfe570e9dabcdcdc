//! Who holds it, on real servers.

use std::{sync::Arc, time::Duration};

use redlock::{
    BackendErrorKind, FredNode, Holder, Inspection, LockBackend, LockValue, RawValue, RedisNode,
    Redlock, Resources, SentinelNode, Verdict, Vote,
};
use redlock_test::server::{Program, RedisServer, SentinelConfig};
use tests::{TTL, builder, fred_client, fred_pool, patient, pool_by, redlock, sentinels};
use tokio::time::{Instant, sleep, timeout};

type Driver = (&'static str, Arc<dyn LockBackend>);

fn driver(name: &'static str, backend: impl LockBackend) -> Driver {
    (name, Arc::new(backend))
}

async fn holder(node: &Arc<dyn LockBackend>, name: &str) -> Option<Holder> {
    node.inspect(name).await.unwrap()
}

/// Each driver tells who holds a lock, and what others have put there; `cli` speaks to the server itself.
async fn each_tells(drivers: &[Driver], cli: impl Fn(&[&str]) -> String) {
    for (who, node) in drivers {
        let name = Resources::new(["{t}a"]).unwrap();
        let value = LockValue::random();
        assert_eq!(holder(node, "{t}a").await, None, "{who}");
        let vote = node.acquire(&name, &value, TTL).await;
        assert_eq!(vote.unwrap(), Vote::Granted, "{who}");
        for (other, peer) in drivers {
            let told = holder(peer, "{t}a").await.unwrap();
            assert_eq!(told.value, value, "{other} of {who}");
            let remaining = told.remaining.unwrap();
            assert!(remaining <= TTL && remaining > TTL / 2, "{remaining:?}");
        }
        node.release(&name, &value).await.unwrap();
        assert_eq!(holder(node, "{t}a").await, None, "{who}");

        cli(&["SET", "{t}foreign", "two words, \u{e4}"]);
        let foreign = Holder::new("two words, \u{e4}", None);
        assert_eq!(holder(node, "{t}foreign").await, Some(foreign), "{who}");
        cli(&["SET", "{t}foreign", "OK"]);
        let ok = Holder::new("OK", None);
        assert_eq!(holder(node, "{t}foreign").await, Some(ok), "{who}");
        cli(&["SET", "{t}foreign", ""]);
        let empty = Holder::new("", None);
        assert_eq!(holder(node, "{t}foreign").await, Some(empty), "{who}");
        // Some libraries use random bytes as the value.
        cli(&["SETBIT", "{t}bytes", "0", "1"]);
        let bytes = RawValue::from(vec![0x80]);
        let told = holder(node, "{t}bytes").await.unwrap();
        assert_eq!(told.value, bytes, "{who}");

        cli(&["RPUSH", "{t}list", "x"]);
        let error = node.inspect("{t}list").await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Server, "{who}: {error}");
        assert!(error.to_string().contains("WRONGTYPE"), "{who}: {error}");
        assert_eq!(holder(node, "{t}a").await, None, "{who}: it goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_driver_tells_who_holds_on_a_server() {
    for program in [
        Program::system(),
        Program::named("valkey-9.1"),
        Program::named("redis-6.2"),
    ] {
        let group = program.start_sentinel(&SentinelConfig::default());
        let server = &group.servers()[0];
        let url = server.url();
        let scripts_only = RedisNode::builder().scripts_only();
        let drivers = [
            driver("redis-rs", RedisNode::new(url.as_str()).unwrap()),
            driver("scripts only", scripts_only.open(url.as_str()).unwrap()),
            driver("deadpool", pool_by(patient(), &url, 1)),
            driver(
                "sentinel",
                SentinelNode::new(sentinels(&group), "mymaster").unwrap(),
            ),
            driver("fred", FredNode::new(&url).unwrap()),
            driver("fred's client", fred_client(FredNode::builder(), &url)),
            driver("fred's pool", fred_pool(FredNode::builder(), &url, 2)),
        ];
        each_tells(&drivers, |args| server.cli(args)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_driver_tells_who_holds_on_a_cluster() {
    let cluster = Program::system().start_cluster();
    let fred = cluster.urls()[0].replace("redis://", "redis-cluster://");
    let drivers = [
        driver("redis-rs", RedisNode::from_cluster(cluster.urls()).unwrap()),
        driver("fred", FredNode::new(fred).unwrap()),
    ];
    each_tells(&drivers, |args| {
        cluster.members()[0].cli(&[&["-c"], args].concat())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_prefix_counts() {
    let server = RedisServer::start();
    let _ = server.cli(&["SET", "lock:a", "x"]);
    let prefix = RedisNode::builder().key_prefix("lock:");
    let fred = FredNode::builder().key_prefix("lock:");
    let nodes: [Arc<dyn LockBackend>; 2] = [
        Arc::new(prefix.open(server.url()).unwrap()),
        Arc::new(fred.open(server.url()).unwrap()),
    ];
    for node in &nodes {
        assert_eq!(holder(node, "a").await, Some(Holder::new("x", None)));
        assert_eq!(holder(node, "lock:a").await, None);
    }
}

async fn inspect(redlock: &Redlock) -> Inspection {
    redlock.inspect("a").await.unwrap()
}

fn is_held_by(inspection: &Inspection, value: &LockValue) -> bool {
    let Verdict::HeldBy(holder) = inspection.verdict() else {
        return false;
    };
    let remaining = holder.remaining.unwrap();
    holder.value == *value && remaining <= TTL && remaining > TTL / 2
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_tells_whether_it_is_held_free_or_split_though_a_node_is_down() {
    let mut servers = RedisServer::start_many(3);
    let generous = builder(&servers).node_timeout(Duration::from_secs(5));
    let redlock = generous.build().unwrap();
    assert_eq!(inspect(&redlock).await.verdict(), &Verdict::Free);

    let lock = redlock.acquire("a", TTL).await.unwrap();
    assert!(is_held_by(&inspect(&redlock).await, lock.value()));
    servers[2].kill();
    let inspection = inspect(&redlock).await;
    assert!(is_held_by(&inspection, lock.value()), "{inspection}");
    let down = inspection.iter().nth(2).unwrap().answer().unwrap_err();
    assert_eq!(down.kind(), BackendErrorKind::Unreachable);
    lock.release().await.unwrap();
    assert_eq!(inspect(&redlock).await.verdict(), &Verdict::Free);

    let _ = servers[0].cli(&["SET", "a", "one"]);
    let _ = servers[1].cli(&["SET", "a", "two"]);
    let unknown = inspect(&redlock).await;
    assert_eq!(unknown.verdict(), &Verdict::Unknown, "{unknown}");
    servers[2].restart();
    // The node is asked again after a pause.
    let asked = async {
        loop {
            let inspection = inspect(&redlock).await;
            if inspection.iter().all(|node| node.answer().is_ok()) {
                return inspection;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let split = timeout(TTL, asked).await.unwrap();
    assert_eq!(split.verdict(), &Verdict::Split, "{split}");
    let _ = servers[2].cli(&["SET", "a", "two"]);
    let held = inspect(&redlock).await;
    let holder = Holder::new("two", None);
    assert_eq!(held.verdict(), &Verdict::HeldBy(holder), "{held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_costs_only_its_answer() {
    let servers = RedisServer::start_many(3);
    let redlock = redlock(&servers);
    tests::warm(&redlock).await;
    let lock = redlock.acquire("a", TTL).await.unwrap();
    servers[0].pause();
    let start = Instant::now();
    let inspection = inspect(&redlock).await;
    let took = start.elapsed();
    servers[0].resume();
    assert!(is_held_by(&inspection, lock.value()), "{inspection}");
    let hung = inspection.iter().next().unwrap();
    assert_eq!(hung.answer().unwrap_err().kind(), BackendErrorKind::Timeout);
    assert!(
        took >= Duration::from_millis(490) && took < Duration::from_secs(3),
        "{took:?}"
    );
    lock.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_of_a_server_that_hangs_ends_and_leaves_the_node_usable() {
    let server = RedisServer::start();
    let url = server.url();
    let drivers = [
        driver("redis-rs", RedisNode::new(url.as_str()).unwrap()),
        driver("deadpool", pool_by(patient(), &url, 1)),
        driver("fred", FredNode::new(&url).unwrap()),
    ];
    let name = Resources::new(["a"]).unwrap();
    for (who, node) in drivers {
        assert_eq!(holder(&node, "a").await, None, "{who}");
        server.pause();
        // One that is dropped, and one that waits.
        let dropped = timeout(Duration::from_millis(50), node.inspect("a"));
        dropped.await.unwrap_err();
        let answer = timeout(Duration::from_secs(10), node.inspect("a"));
        let error = answer.await.expect(who).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Timeout, "{who}: {error}");
        server.resume();
        let usable = async {
            while node.inspect("a").await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(TTL, usable).await.expect(who);
        let value = LockValue::random();
        let vote = node.acquire(&name, &value, TTL).await;
        assert_eq!(vote.unwrap(), Vote::Granted, "{who}");
        assert_eq!(holder(&node, "a").await.unwrap().value, value, "{who}");
        node.release(&name, &value).await.unwrap();
    }
}
