//! What the tests share.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::time::Duration;

use fred::{
    clients::{Client, Pool},
    types::{Builder, config::Config},
};
use redlock_core::{Error, Redlock};
use redlock_fred::{FredNode, fred};
use redlock_test::{proxy::Proxy, server::RedisServer};
use tokio::time::{sleep, timeout};

/// Long enough for a loaded machine.
pub const TTL: Duration = Duration::from_secs(20);

/// A Redlock that makes one attempt over this node, with time for a vote on a loaded machine.
pub fn alone(node: FredNode) -> Redlock {
    let builder = Redlock::builder([node]).retry_count(0);
    let builder = builder.node_timeout(Duration::from_secs(15));
    builder.build().expect("one node")
}

pub fn nodes<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Vec<FredNode> {
    let node = |url: U| FredNode::new(url.as_ref()).expect("a URL");
    urls.into_iter().map(node).collect()
}

/// Acquires, contends, extends and releases.
pub async fn works(redlock: &Redlock, resources: &[&str]) {
    let mut lock = redlock.acquire(resources, TTL).await.expect("free");
    let error = redlock.try_acquire(&resources[..1], TTL).await;
    assert!(matches!(error, Err(Error::Locked(_))), "{error:?}");
    lock.extend(TTL * 2).await.expect("still ours");
    lock.release().await.expect("still ours");
}

/// Works before its deadline, however often it fails until then.
pub async fn works_again(redlock: &Redlock, resource: &str) {
    let patience = std::iter::repeat_n(Duration::from_millis(100), 150);
    let lock = redlock.acquire_with_retry(resource, TTL, patience).await;
    let released = lock.expect("within 15 s").release().await;
    // Votes may be as short as somebody likes who is only asked again.
    let is_ours = matches!(released, Ok(()) | Err(Error::NoQuorum(_)));
    assert!(is_ours, "{released:?}");
}

/// Settings as bad as they can be: commands are repeated, connections are not.
fn bad(url: &str) -> Builder {
    let mut builder = Builder::from_config(Config::from_url(url).expect("a URL"));
    builder.with_connection_config(|config| config.max_command_attempts = 3);
    builder
}

/// A client that nobody has connected.
pub fn bad_client(url: &str) -> Client {
    bad(url).build().expect("a client")
}

pub fn bad_pool(url: &str, size: usize) -> Pool {
    bad(url).build_pool(size).expect("a pool")
}

/// Waits until the condition holds, for less than the [`TTL`] that could make it hold by itself.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let outcome = timeout(Duration::from_secs(15), waited).await;
    assert!(outcome.is_ok(), "never: {what}");
}

pub async fn eventually_clean(servers: &[RedisServer]) {
    eventually("no key remains on any server", || {
        servers.iter().all(|server| server.keys().is_empty())
    })
    .await;
}

/// How often the server has executed this command.
pub fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap_or(0)
}

/// How many connections the server has accepted, this question's included.
pub fn dials(server: &RedisServer) -> u64 {
    let stats = server.cli(&["INFO", "stats"]);
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    line.expect("it is told").trim().parse().expect("a number")
}

/// Proxies before all members of a cluster, which names them as its own addresses.
pub async fn before_cluster(members: &[RedisServer]) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for member in members {
        let proxy = Proxy::start(member.address()).await.expect("a free port");
        let port = proxy.address().port().to_string();
        let _ = member.cli(&["CONFIG", "SET", "cluster-announce-port", &port]);
        proxies.push(proxy);
    }
    let named = |member: &RedisServer| {
        let slots = member.cli(&["--raw", "CLUSTER", "SLOTS"]);
        let mut ports = proxies
            .iter()
            .map(|proxy| proxy.address().port().to_string());
        ports.all(|port| slots.lines().any(|line| line == port))
    };
    eventually("the members name the proxies", || members.iter().all(named)).await;
    proxies
}

pub fn cluster_url(url: &str) -> String {
    url.replace("redis://", "redis-cluster://")
}
