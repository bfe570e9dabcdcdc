//! Servers that compare without scripts, servers that forbid scripts, and both.

use std::time::Duration;

use redlock::{
    BackendErrorKind, Error, LockBackend, LockValue, RedisNode, Redlock, Resources, Vote,
};
use redlock_test::server::{Program, RedisServer};
use tests::{TTL, calls, nodes};

fn valkey() -> RedisServer {
    Program::named("valkey-9.1").start()
}

/// A user's URL who may do everything but run scripts.
fn without_scripts(server: &RedisServer) -> String {
    let rule = "ACL SETUSER app on >pw ~* +@all -@scripting";
    assert_eq!(server.cli(&rule.split(' ').collect::<Vec<_>>()), "OK");
    format!("redis://app:pw@{}", server.address())
}

fn scripts(server: &RedisServer) -> u64 {
    calls(server, "eval") + calls(server, "evalsha")
}

#[tokio::test]
async fn native_commands_are_used_where_the_server_has_them() {
    let server = valkey();
    let redlock = Redlock::new(nodes([server.url()])).unwrap();
    for _ in 0..10 {
        let lock = redlock.acquire("a", TTL).await.unwrap();
        lock.release().await.unwrap();
    }
    // Only a script tells those who wait.
    assert_eq!(calls(&server, "delifeq") + calls(&server, "delex"), 0);
    assert!(scripts(&server) >= 10);
    for _ in 0..10 {
        let lock = redlock.acquire(["a", "b"], TTL).await.unwrap();
        assert!(redlock.try_acquire("b", TTL).await.is_err());
        lock.release().await.unwrap();
    }
    assert_eq!(calls(&server, "msetex"), 10);
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn what_a_server_has_not_is_asked_once_a_connection() {
    let server = RedisServer::start();
    let redlock = Redlock::new(nodes([server.url()])).unwrap();
    let unknown = || {
        let stats = server.cli(&["INFO", "errorstats"]);
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("errorstat_ERR:count="));
        line.map_or(0, |count| count.parse::<u32>().unwrap())
    };
    for names in [&["a"][..], &["a", "b"]] {
        let before = unknown();
        let lock = redlock.acquire(names, TTL).await.unwrap();
        lock.release().await.unwrap();
        let asked = unknown();
        assert!(asked > before, "nothing was asked for");
        for _ in 0..5 {
            let lock = redlock.acquire(names, TTL).await.unwrap();
            lock.release().await.unwrap();
        }
        assert_eq!(unknown(), asked);
    }
}

#[tokio::test]
async fn a_lock_needs_no_scripts_where_they_are_forbidden() {
    let server = valkey();
    let redlock = Redlock::new(nodes([without_scripts(&server)])).unwrap();
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    let left = || -> u128 { server.cli(&["PTTL", "a"]).parse().unwrap() };
    lock.extend(3 * TTL).await.unwrap();
    assert!(left() > 2 * TTL.as_millis(), "extended to {} ms", left());
    lock.extend(TTL).await.unwrap();
    assert!(left() > 2 * TTL.as_millis(), "shortened to {} ms", left());
    lock.release().await.unwrap();
    assert!(server.keys().is_empty());

    // By value, as somebody else: nothing is extended or released that does not carry it.
    let node = RedisNode::new(without_scripts(&server)).unwrap();
    let a = Resources::new(["a"]).unwrap();
    let (ours, theirs) = (LockValue::random(), LockValue::random());
    assert_eq!(node.extend(&a, &ours, TTL).await.unwrap(), Vote::Refused);
    assert!(server.keys().is_empty(), "an extension has revived it");
    let short = Duration::from_secs(5);
    assert_eq!(
        node.acquire(&a, &theirs, short).await.unwrap(),
        Vote::Granted
    );
    assert_eq!(node.extend(&a, &ours, TTL).await.unwrap(), Vote::Refused);
    assert_eq!(node.release(&a, &ours).await.unwrap(), Vote::Refused);
    assert!(left() <= short.as_millis());
    assert_eq!(server.cli(&["GET", "a"]), theirs.as_str());
    assert_eq!(scripts(&server), 0);
}

#[tokio::test]
async fn several_resources_without_scripts_are_taken_and_freed_but_not_extended() {
    let server = valkey();
    let redlock = Redlock::new(nodes([without_scripts(&server)])).unwrap();
    let mut lock = redlock.acquire(["a", "b", "c"], TTL).await.unwrap();
    let error = lock.extend(TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert!(error.to_string().contains("script: "), "{error}");
    lock.check().unwrap();
    lock.release().await.unwrap();
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn one_key_that_cannot_be_released_does_not_keep_the_others() {
    let server = valkey();
    let node = RedisNode::new(without_scripts(&server)).unwrap();
    let resources = Resources::new(["a", "b", "c"]).unwrap();
    let value = LockValue::random();
    assert_eq!(
        node.acquire(&resources, &value, TTL).await.unwrap(),
        Vote::Granted
    );
    for broken in [&["DEL", "a"][..], &["LPUSH", "a", "x"]] {
        let _ = server.cli(broken);
    }
    let error = node.release(&resources, &value).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Server, "{error}");
    assert!(error.may_have_happened(), "it was done in part");
    assert_eq!(server.keys(), ["a"]);
}

#[tokio::test]
async fn scripts_that_may_not_do_what_they_do_are_no_way() {
    let server = valkey();
    let rule = "ACL SETUSER app on >pw ~* +@all -get -pexpire";
    assert_eq!(server.cli(&rule.split(' ').collect::<Vec<_>>()), "OK");
    let node = RedisNode::new(format!("redis://app:pw@{}", server.address())).unwrap();
    let redlock = Redlock::new([node]).unwrap();
    let lock = redlock.acquire(["a", "b"], TTL).await.unwrap();
    lock.release().await.unwrap();
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    lock.extend(2 * TTL).await.unwrap();
    lock.release().await.unwrap();
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn a_server_with_neither_scripts_nor_native_commands_says_so() {
    let server = RedisServer::start();
    let node = RedisNode::new(without_scripts(&server)).unwrap();
    let a = Resources::new(["a"]).unwrap();
    let value = LockValue::random();
    assert_eq!(node.acquire(&a, &value, TTL).await.unwrap(), Vote::Granted);
    let released = node.release(&a, &value).await.unwrap_err();
    let extended = node.extend(&a, &value, TTL).await.unwrap_err();
    for (error, ways) in [
        (released, &["DELEX: ", "DELIFEQ: ", "script: "][..]),
        (extended, &["script: ", "SET IFEQ: "][..]),
    ] {
        assert_eq!(error.kind(), BackendErrorKind::Unsupported);
        assert!(!error.may_have_happened());
        for way in ways {
            assert!(error.to_string().contains(way), "{error}");
        }
    }
    let several = Resources::new(["x", "y"]).unwrap();
    let error = node.acquire(&several, &value, TTL).await.unwrap_err();
    assert!(error.to_string().contains("MSETEX: "), "{error}");
    assert_eq!(server.keys(), ["a"]);
}

#[tokio::test]
async fn a_node_told_to_use_scripts_only_sends_nothing_else() {
    let server = valkey();
    let node = RedisNode::builder()
        .scripts_only()
        .open(server.url())
        .unwrap();
    let redlock = Redlock::new([node]).unwrap();
    for names in [&["a"][..], &["a", "b"]] {
        let mut lock = redlock.acquire(names, TTL).await.unwrap();
        lock.extend(TTL).await.unwrap();
        lock.release().await.unwrap();
    }
    assert_eq!(calls(&server, "delifeq") + calls(&server, "msetex"), 0);
    assert!(scripts(&server) >= 5);
}

#[tokio::test]
async fn msetex_is_kept_away_from_a_member_of_a_cluster() {
    let cluster = Program::named("valkey-9.1").start_cluster();
    // Spoken to as if it were alone, a member refuses what belongs to others, and so must we.
    let mut refused = 0;
    for member in cluster.members() {
        let redlock = Redlock::builder(nodes([member.url()]))
            .retry_count(0)
            .build()
            .unwrap();
        match redlock.acquire(["{t}:a", "{t}:b"], TTL).await {
            Ok(lock) => lock.release().await.unwrap(),
            Err(error) => {
                assert!(error.to_string().contains("Moved"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn an_error_that_names_every_way_shows_no_value() {
    let server = RedisServer::start();
    let redlock = Redlock::new(nodes([without_scripts(&server)])).unwrap();
    let lock = redlock.acquire("a", TTL).await.unwrap();
    let value = lock.value().clone();
    let error = lock.release().await.unwrap_err().to_string();
    for way in ["DELEX", "DELIFEQ", "script"] {
        assert!(error.contains(way), "{error}");
    }
    assert!(!error.contains(&value.as_str()[..8]), "{error}");
}
