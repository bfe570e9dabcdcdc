//! What the tests on real servers share, and the README, whose code is compiled and run as tests.

pub mod begun;
pub mod hostile;
pub mod peers;

use std::{sync::Arc, time::Duration};

use redlock::{
    FredNode, FredNodeBuilder, LockBackend, RedisNode, RedisNodeBuilder, Redlock, RedlockBuilder,
    fred::fred::types::{Builder, config::Config as FredConfig},
    redis_rs::deadpool_redis::{Config, PoolConfig, Runtime},
};
use redlock_test::server::{RedisServer, SentinelGroup};
use tokio::time::{sleep, timeout};

/// Every Rust block of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Long enough for a loaded machine.
pub const TTL: Duration = Duration::from_secs(20);

/// Nodes at these URLs.
///
/// # Panics
///
/// When a URL makes no sense.
pub fn nodes<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Vec<RedisNode> {
    let node = |url: U| RedisNode::new(url.as_ref()).expect("a URL");
    urls.into_iter().map(node).collect()
}

/// A node at this URL.
pub type Driver = fn(&str) -> Arc<dyn LockBackend>;

/// Those for a server that is found by its URL.
pub const DRIVERS: [Driver; 2] = [
    |url| Arc::new(RedisNode::new(url).expect("a URL")),
    |url| Arc::new(FredNode::new(url).expect("a URL")),
];

/// Has the server know a user who may do what these rules say; see [`as_limited`].
///
/// # Panics
///
/// When the rules make no sense.
pub fn limit(server: &RedisServer, rules: &str) {
    let user = format!("ACL SETUSER limited on >secret {rules}");
    assert_eq!(server.cli(&user.split(' ').collect::<Vec<_>>()), "OK");
}

/// The URL by which one is that user.
#[must_use]
pub fn as_limited(url: &str) -> String {
    url.replace("redis://", "redis://limited:secret@")
}

/// The URLs of a group's sentinels.
#[must_use]
pub fn sentinels(group: &SentinelGroup) -> Vec<String> {
    let servers = group.sentinel_servers().iter();
    servers.map(RedisServer::url).collect()
}

/// A node behind a pool of so many connections.
///
/// # Panics
///
/// When the URL makes no sense.
#[must_use]
pub fn pool(url: &str, size: usize) -> RedisNode {
    pool_by(
        RedisNode::builder().response_timeout(Duration::from_millis(300)),
        url,
        size,
    )
}

/// A node with these settings behind a pool of so many connections.
///
/// # Panics
///
/// When the URL makes no sense.
#[must_use]
pub fn pool_by(node: RedisNodeBuilder, url: &str, size: usize) -> RedisNode {
    let mut config = Config::from_url(url);
    config.pool = Some(PoolConfig::new(size));
    let pool = config.create_pool(Some(Runtime::Tokio1));
    node.pool(pool.expect("a URL"))
}

/// A node where a client of fred's leads to; `redis-cluster://` for a cluster.
///
/// # Panics
///
/// When the URL makes no sense.
#[must_use]
pub fn fred_client(node: FredNodeBuilder, url: &str) -> FredNode {
    let client = fred_builder(url).build().expect("a client");
    node.client(&client).expect("an address")
}

/// A node where a pool of so many of fred's clients leads to.
///
/// # Panics
///
/// When the URL makes no sense.
#[must_use]
pub fn fred_pool(node: FredNodeBuilder, url: &str, size: usize) -> FredNode {
    let pool = fred_builder(url).build_pool(size).expect("a pool");
    node.pool(&pool).expect("an address")
}

/// For what is never down, but may be starved.
const PATIENCE: Duration = Duration::from_secs(15);

/// For a node that is never down, but may be starved.
pub const fn patient() -> RedisNodeBuilder {
    let builder = RedisNode::builder().connect_timeout(PATIENCE);
    builder.response_timeout(PATIENCE)
}

/// For a node of fred's that is never down, but may be starved.
pub const fn patient_fred() -> FredNodeBuilder {
    let builder = FredNode::builder().connect_timeout(PATIENCE);
    builder.response_timeout(PATIENCE)
}

fn fred_builder(url: &str) -> Builder {
    Builder::from_config(FredConfig::from_url(url).expect("a URL"))
}

/// A builder over these servers.
pub fn builder(servers: &[RedisServer]) -> RedlockBuilder {
    Redlock::builder(nodes(servers.iter().map(RedisServer::url)))
}

/// A Redlock over these servers with the default settings.
///
/// # Panics
///
/// Never, as the servers are distinct.
#[must_use]
pub fn redlock(servers: &[RedisServer]) -> Redlock {
    builder(servers).build().expect("distinct servers")
}

/// Takes and releases a lock, after which the nodes are connected.
///
/// # Panics
///
/// When that fails.
pub async fn warm(redlock: &Redlock) {
    let lock = redlock.acquire("warm", TTL).await.expect("it is free");
    lock.release().await.expect("it is still ours");
}

/// Waits until the condition holds.
///
/// # Panics
///
/// When it does not within 15 s, before [`TTL`] could make it hold by itself.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let outcome = timeout(Duration::from_secs(15), waited).await;
    assert!(outcome.is_ok(), "never: {what}");
}

/// Waits until none of the servers has a key.
///
/// # Panics
///
/// When one still has after 15 s.
pub async fn eventually_clean(servers: &[RedisServer]) {
    eventually("no key remains on any server", || {
        servers.iter().all(|server| server.keys().is_empty())
    })
    .await;
}

/// How often the server has executed this command.
#[must_use]
pub fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap_or(0)
}
