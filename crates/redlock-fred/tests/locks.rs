//! Locks over servers that work.

mod common;

use std::time::{Duration, Instant};

use common::{
    TTL, alone, bad_client, bad_pool, cluster_url, dials, eventually, eventually_clean, nodes,
    works, works_again,
};
use fred::{
    interfaces::ClientLike,
    types::{Builder, ClusterHash, CustomCommand, RespVersion, config::Config},
};
use redlock_core::{Error, InvalidRequest, LockBackend, LockValue, Redlock, Resources, Vote};
use redlock_fred::{FredNode, fred};
use redlock_test::server::{RedisCluster, RedisServer};

#[tokio::test]
async fn acquire_extend_release_and_contention() {
    for count in [1, 3, 5] {
        let servers = RedisServer::start_many(count);
        let redlock = Redlock::new(nodes(servers.iter().map(RedisServer::url))).unwrap();
        for resources in [vec!["a"], vec!["a", "b", "c"]] {
            let mut lock = redlock.acquire(&resources, TTL).await.unwrap();
            let held = |server: &RedisServer| server.keys() == resources;
            eventually("all hold it", || servers.iter().all(held)).await;
            let error = redlock.try_acquire(&resources[..1], TTL).await.unwrap_err();
            assert!(matches!(error, Error::Locked(_)), "{error}");
            lock.extend(TTL * 2).await.unwrap();
            let ttl = u64::try_from(TTL.as_millis()).unwrap();
            let extended = |server: &RedisServer| {
                let left = server.cli(&["PTTL", "a"]).parse();
                left.is_ok_and(|left: u64| left > ttl)
            };
            eventually("all are extended", || servers.iter().all(extended)).await;
            lock.release().await.unwrap();
            eventually_clean(&servers).await;
        }
    }
}

#[tokio::test]
async fn a_client_or_a_pool_the_user_already_has() {
    let servers = RedisServer::start_many(3);
    let given = [
        FredNode::from_client(&bad_client(&servers[0].url())).unwrap(),
        FredNode::from_pool(&bad_pool(&servers[1].url(), 4)).unwrap(),
        FredNode::new(servers[2].url()).unwrap(),
    ];
    let redlock = Redlock::new(given).unwrap();
    works(&redlock, &["a"]).await;
    works(&redlock, &["a", "b"]).await;
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let redlock = redlock.clone();
            tokio::spawn(async move {
                let lock = redlock.acquire(format!("r{number}"), TTL).await?;
                lock.release().await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    eventually_clean(&servers).await;
}

#[tokio::test]
async fn a_cluster_is_one_node() {
    let cluster = RedisCluster::start();
    let url = cluster_url(&cluster.urls()[0]);
    let others = RedisServer::start_many(2);
    let mut members = nodes(others.iter().map(RedisServer::url));
    members.push(FredNode::new(&url).unwrap());
    let mixed = Redlock::new(members).unwrap();
    works(&mixed, &["{order:1}:a", "{order:1}:b"]).await;
    for node in [
        FredNode::new(&url).unwrap(),
        FredNode::from_client(&bad_client(&url)).unwrap(),
        FredNode::from_pool(&bad_pool(&url, 2)).unwrap(),
    ] {
        let redlock = alone(node);
        for number in 0..30 {
            works(&redlock, &[&format!("r{number}")]).await;
        }
        works(&redlock, &["{order:1}:a", "{order:1}:b"]).await;
        let error = redlock.acquire(["a", "b"], TTL).await.unwrap_err();
        assert!(
            matches!(&error, Error::Invalid(InvalidRequest::Unsupported { reason, .. }) if reason.contains("slot")),
            "{error}"
        );
    }
    eventually_clean(&others).await;
    eventually_clean(cluster.members()).await;
}

#[tokio::test]
async fn resp2_and_resp3() {
    let server = RedisServer::start();
    for version in [RespVersion::RESP2, RespVersion::RESP3] {
        let mut config = Config::from_url(&server.url()).unwrap();
        config.version = version;
        let node = FredNode::builder().config(config).unwrap();
        works(&alone(node.clone()), &["a"]).await;
        works(&alone(node), &["a", "b"]).await;
    }
}

#[tokio::test]
async fn the_key_is_the_name_and_its_value_the_locks_unless_a_prefix_is_set() {
    let server = RedisServer::start();
    for prefix in ["", "lock:"] {
        let builder = FredNode::builder().key_prefix(prefix).scripts_only();
        let redlock = alone(builder.open(server.url()).unwrap());
        let lock = redlock.acquire(["a", "b"], TTL).await.unwrap();
        assert_eq!(server.keys(), [format!("{prefix}a"), format!("{prefix}b")]);
        let stored = server.cli(&["GET", &format!("{prefix}a")]);
        assert_eq!(stored, lock.value().as_str());
        lock.release().await.unwrap();
        assert!(server.keys().is_empty());
    }
}

#[tokio::test]
async fn names_of_every_kind_are_just_names() {
    let servers = RedisServer::start_many(3);
    let redlock = Redlock::new(nodes(servers.iter().map(RedisServer::url))).unwrap();
    let long = "x".repeat(10_240);
    for name in ["a b", "schlüssel 🔑", "{tag}:1", "*", "\r\n$5\0", &long] {
        works(&redlock, &[name, "other"]).await;
        works(&redlock, &[name]).await;
    }
    eventually_clean(&servers).await;
}

#[test]
fn nodes_are_named_by_their_address_and_one_server_given_twice_is_refused() {
    let names = [
        ("redis://u:secret@Host:1/3", "host:1"),
        ("redis-cluster://h:2?node=h:1", "cluster h:1"),
        (
            "redis-sentinel://h:1?sentinelServiceName=m",
            "m of sentinel h:1",
        ),
    ];
    for (url, name) in names {
        let redlock = Redlock::new(nodes([url])).unwrap();
        assert_eq!(redlock.nodes().collect::<Vec<_>>(), [name]);
    }
    let mine = FredNode::builder().name("mine").open("redis://h").unwrap();
    assert_eq!(alone(mine).nodes().collect::<Vec<_>>(), ["mine"]);
    let twice = Redlock::new(nodes(["redis://h:1", "redis://H:1/2"]));
    assert!(matches!(twice, Err(InvalidRequest::DuplicateNode(_))));
    assert!(FredNode::new("no url").is_err());
}

#[tokio::test]
async fn a_wrong_password_and_missing_permissions_are_told_and_no_credentials_shown() {
    let server = RedisServer::start_with(&["--requirepass", "sesame"]);
    let user = [
        "-a", "sesame", "ACL", "SETUSER", "weak", "on", ">s3cret", "~*", "+@all", "-set",
    ];
    assert_eq!(server.cli(&user), "OK");
    let at = server.address();
    for (credentials, told) in [
        ("", "NOAUTH"),
        (":wr0ng@", "WRONGPASS"),
        ("weak:wr0ng@", "WRONGPASS"),
        ("weak:s3cret@", "NOPERM"),
    ] {
        let node = FredNode::new(format!("redis://{credentials}{at}")).unwrap();
        let redlock = alone(node.clone());
        let error = redlock.acquire("a", TTL).await.unwrap_err();
        let shown = format!("{error} {error:?} {node:?} {redlock:?}");
        assert!(shown.contains(told), "{told}: {shown}");
        assert!(
            !shown.contains("wr0ng") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
    works(
        &alone(FredNode::new(format!("redis://:sesame@{at}")).unwrap()),
        &["a"],
    )
    .await;
}

#[tokio::test]
async fn keys_of_another_type_and_a_full_server_are_errors_or_locks_never_a_panic() {
    let server = RedisServer::start();
    let _ = server.cli(&["RPUSH", "a", "x"]);
    let redlock = alone(FredNode::new(server.url()).unwrap());
    let error = redlock.acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::Locked(_)), "{error}");
    let _ = server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = redlock.acquire("b", TTL).await.unwrap_err();
    assert!(error.to_string().contains("OOM"), "{error}");
}

#[tokio::test]
async fn servers_without_resp3_or_evalsha_work() {
    for renamed in ["HELLO", "EVALSHA"] {
        let server = RedisServer::start_with(&["--rename-command", renamed, ""]);
        works(&alone(FredNode::new(server.url()).unwrap()), &["a", "b"]).await;
    }
}

#[tokio::test]
async fn the_configuration_of_a_client_is_taken_over_and_the_client_left_alone() {
    let server = RedisServer::start_with(&["--requirepass", "sesame"]);
    let url = format!("redis://:sesame@{}/3", server.address());
    let mut config = Config::from_url(&url).unwrap();
    config.version = RespVersion::RESP3;
    let client = Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    let clients = || server.cli(&["-a", "sesame", "CLIENT", "LIST"]);
    let mine = clients().lines().count();
    let redlock = alone(FredNode::from_client(&client).unwrap());
    assert_eq!(clients().lines().count(), mine, "nothing is sent yet");
    let lock = redlock.acquire("a", TTL).await.unwrap();
    let of_node = |line: &&str| line.contains("db=3") && line.contains("resp=3");
    assert_eq!(clients().lines().filter(of_node).count(), 2);
    let get = CustomCommand::new_static("GET", ClusterHash::FirstKey, false);
    let stored: Option<String> = client.custom(get, vec!["a"]).await.unwrap();
    assert_eq!(stored.as_deref(), Some(lock.value().as_str()));
    client.quit().await.unwrap();
    lock.release().await.unwrap();
    works(&redlock, &["a"]).await;
}

#[test]
fn a_node_is_made_outside_of_a_runtime_and_outlives_one() {
    let server = RedisServer::start();
    let redlock = alone(FredNode::new(server.url()).unwrap());
    for _ in 0..2 {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(works(&redlock, &["a"]));
    }
}

#[tokio::test]
async fn a_dropped_node_leaves_no_connection() {
    let server = RedisServer::start();
    let redlock = alone(FredNode::new(server.url()).unwrap());
    let clients = || server.cli(&["CLIENT", "LIST"]).lines().count();
    let before = clients();
    works(&redlock, &["a"]).await;
    assert_eq!(clients(), before + 1);
    drop(redlock);
    eventually("its connection is closed", || clients() == before).await;
}

#[tokio::test]
async fn after_a_slot_of_a_cluster_has_moved_one_operation_fails_and_the_next_succeeds() {
    let cluster = RedisCluster::start();
    let url = cluster_url(&cluster.urls()[0]);
    let nodes = [
        FredNode::new(&url).unwrap(),
        FredNode::from_client(&bad_client(&url)).unwrap(),
    ];
    let members = cluster.members();
    let slot = members[0].cli(&["CLUSTER", "KEYSLOT", "b"]);
    for (node, to) in nodes.into_iter().zip([1, 2]) {
        let redlock = alone(node);
        works_again(&redlock, "b").await;
        let id = members[to].cli(&["CLUSTER", "MYID"]);
        for member in [&members[to], &members[0], &members[3 - to]] {
            let moved = member.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
            assert_eq!(moved, "OK");
        }
        let first = redlock.acquire("b", TTL).await;
        assert!(first.is_err(), "fred sends it once");
        works(&redlock, &["b"]).await;
    }
    eventually_clean(members).await;
}

/// Lets the first member migrate the slot of "b" to the second; a key that it does not have is `ASK`ed for.
fn migrate(cluster: &RedisCluster) {
    let members = cluster.members();
    let slot = members[0].cli(&["CLUSTER", "KEYSLOT", "b"]);
    for (at, state, other) in [(1, "IMPORTING", 0), (0, "MIGRATING", 1)] {
        let id = members[other].cli(&["CLUSTER", "MYID"]);
        let set = members[at].cli(&["CLUSTER", "SETSLOT", &slot, state, &id]);
        assert_eq!(set, "OK");
    }
}

#[tokio::test]
async fn a_slot_that_is_migrated_costs_no_other_lock_and_no_connection() {
    let cluster = RedisCluster::start();
    let node = FredNode::new(cluster_url(&cluster.urls()[0])).unwrap();
    let redlock = alone(node.clone());
    works(&redlock, &["b"]).await;
    migrate(&cluster);
    let before: Vec<_> = cluster.members().iter().map(dials).collect();
    let resources = Resources::new(["b"]).unwrap();
    for number in 0..50 {
        let asked = node.acquire(&resources, &LockValue::random(), TTL).await;
        let error = asked.unwrap_err();
        assert!(!error.may_have_happened(), "{error}");
        works(&redlock, &[&format!("r{number}")]).await;
    }
    for (member, before) in cluster.members().iter().zip(before) {
        assert_eq!(dials(member), before + 1);
    }
    let slot = cluster.members()[0].cli(&["CLUSTER", "KEYSLOT", "b"]);
    for member in cluster.members() {
        let _ = member.cli(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    }
    works(&redlock, &["b"]).await;
}

#[tokio::test]
async fn a_command_of_the_application_that_is_redirected_grants_nobody_a_lock() {
    let cluster = RedisCluster::start();
    let mut builder =
        Builder::from_config(Config::from_url(&cluster_url(&cluster.urls()[0])).unwrap());
    builder.with_connection_config(|config| config.max_command_attempts = 2000);
    let client = builder.build().unwrap();
    client.init().await.unwrap();
    let node = FredNode::from_client(&client).unwrap();
    let resources = Resources::new(["k0"]).unwrap();
    let granted = node.acquire(&resources, &LockValue::random(), TTL).await;
    assert_eq!(granted.unwrap(), Vote::Granted);
    migrate(&cluster);
    let start = Instant::now();
    let application = tokio::spawn(async move {
        loop {
            let get = CustomCommand::new_static("GET", ClusterHash::FirstKey, false);
            let _ = client.custom::<Option<String>, _>(get, vec!["b"]).await;
        }
    });
    while start.elapsed() < Duration::from_secs(2) {
        let vote = node.acquire(&resources, &LockValue::random(), TTL).await;
        assert_eq!(vote.unwrap(), Vote::Refused);
    }
    // fred may leave a command of its own without an answer for ever.
    application.abort();
}
