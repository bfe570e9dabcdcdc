//! Masters behind Sentinel: followed through every failover, and only ever the one master.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use redlock::{
    BackendError, BackendErrorKind, Error, LockBackend, LockValue, RedisNode, Redlock, Resources,
    SentinelNode, Vote,
};
use redlock_test::server::{Program, RedisServer, SentinelConfig, SentinelGroup};
use tests::{TTL, eventually, patient, sentinels};
use tokio::time::{sleep, timeout};

fn node(group: &SentinelGroup) -> SentinelNode {
    SentinelNode::new(sentinels(group), group.master_name()).unwrap()
}

fn resource(number: usize) -> Resources {
    Resources::new([format!("r{number}")]).unwrap()
}

/// Asks for a lock of its own every ten milliseconds until `end`; says which were granted, and when each
/// was asked for.
async fn granted_until(
    node: &SentinelNode,
    first: usize,
    end: Instant,
) -> Vec<(Resources, LockValue, Instant)> {
    let mut granted = Vec::new();
    let mut number = first;
    while Instant::now() < end {
        let (resource, value, asked) = (resource(number), LockValue::random(), Instant::now());
        number += 1;
        let vote = timeout(
            Duration::from_millis(500),
            node.acquire(&resource, &value, 3 * TTL),
        );
        if let Ok(Ok(Vote::Granted)) = vote.await {
            granted.push((resource, value, asked));
        }
        sleep(Duration::from_millis(10)).await;
    }
    granted
}

/// Whether the node votes at all.
async fn ask(node: &SentinelNode, resource: &Resources) -> Result<Vote, BackendError> {
    node.acquire(resource, &LockValue::random(), Duration::from_millis(1))
        .await
}

/// Waits until the node grants again.
async fn grants_again(node: &SentinelNode) {
    let start = Instant::now();
    loop {
        let again = resource(usize::MAX);
        let asked = ask(node, &again);
        match timeout(Duration::from_millis(500), asked).await {
            Ok(Ok(_)) => return,
            other => assert!(start.elapsed() < Duration::from_secs(90), "{other:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asks at once, before a lease of theirs ends.
fn all_on(server: &RedisServer, granted: &[(Resources, LockValue, Instant)]) {
    let keys = granted.iter().map(|(resource, ..)| resource[0].as_str());
    let found = server.cli(
        &["--raw", "MGET"]
            .into_iter()
            .chain(keys)
            .collect::<Vec<_>>(),
    );
    let found: Vec<_> = found.lines().collect();
    let values: Vec<_> = granted.iter().map(|(_, value, _)| value.as_str()).collect();
    assert_eq!(found, values);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_master_was_killed_only_the_new_one_votes() {
    let mut group = SentinelGroup::start();
    let node = node(&group);
    let old = group.master();
    grants_again(&node).await;
    group.server_at(old).kill();
    let new = group.master_other_than(old);
    grants_again(&node).await;
    // The dead one comes back, and takes itself for the master until it is told otherwise.
    group.server_at(old).restart();
    let granted = granted_until(&node, 1_000, Instant::now() + Duration::from_secs(3)).await;
    assert!(granted.len() > 20, "{} votes", granted.len());
    all_on(group.server_at(new), &granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_master_was_paused_only_the_new_one_votes() {
    let mut group = SentinelGroup::start();
    let node = node(&group);
    let old = group.master();
    grants_again(&node).await;
    group.server_at(old).pause();
    let new = group.master_other_than(old);
    grants_again(&node).await;
    group.server_at(old).resume();
    let granted = granted_until(&node, 1_000, Instant::now() + Duration::from_secs(5)).await;
    assert!(granted.len() > 20, "{} votes", granted.len());
    all_on(group.server_at(new), &granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_planned_failover_no_vote_comes_from_the_demoted_master() {
    let mut group = SentinelGroup::start();
    let node = node(&group);
    let old = group.master();
    grants_again(&node).await;
    let voting = tokio::spawn({
        let node = node.clone();
        // Longer than the old master goes on to take writes.
        async move { granted_until(&node, 0, Instant::now() + Duration::from_secs(14)).await }
    });
    sleep(Duration::from_millis(300)).await;
    group.failover();
    let new = group.master_other_than(old);
    let announced = Instant::now();
    let granted = voting.await.unwrap();
    let after: Vec<_> = granted
        .into_iter()
        .filter(|(.., asked)| *asked > announced)
        .collect();
    assert!(after.len() > 100, "{} votes", after.len());
    all_on(group.server_at(new), &after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_fails_over_is_one_node_of_three_that_costs_only_its_vote() {
    let start = |_| SentinelGroup::start();
    let mut groups: Vec<_> = (0..3).map(start).collect();
    let open = |group: &SentinelGroup| {
        let node = SentinelNode::builder().settings(patient());
        node.open(sentinels(group), group.master_name()).unwrap()
    };
    let redlock = Redlock::builder(groups.iter().map(open)).node_timeout(Duration::from_secs(15));
    let redlock = redlock.build().unwrap();
    let old = groups[0].master();
    groups[0].server_at(old).kill();
    let start = Instant::now();
    let mut locks = 0;
    while start.elapsed() < Duration::from_secs(6) {
        let lock = redlock.try_acquire(["a", "b"], TTL).await.unwrap();
        lock.release().await.unwrap();
        locks += 1;
    }
    assert!(locks > 30, "{locks} locks");
    let new = groups[0].master_other_than(old);
    // It is taken in again.
    let lock = redlock.acquire("c", TTL).await.unwrap();
    let value = lock.value().clone();
    let new = groups[0].server_at(new);
    eventually("the new master votes", || {
        new.cli(&["GET", "c"]) == value.as_str()
    })
    .await;
    lock.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_servers_have_passwords_of_their_own() {
    let group = Program::system().start_sentinel(&SentinelConfig {
        args: &["--requirepass", "data"],
        sentinel_args: &["--requirepass", "watch"],
        ..SentinelConfig::default()
    });
    let with = |password: &str| {
        sentinels(&group)
            .into_iter()
            .map(move |url| url.replace("//", &format!("//:{password}@")))
            .collect::<Vec<_>>()
    };
    let open = |server: &str, sentinel: &str| {
        let node = SentinelNode::builder()
            .server(format!("redis://:{server}@master"))
            .open(with(sentinel), "mymaster")
            .unwrap();
        Redlock::builder([node]).retry_count(0).build().unwrap()
    };
    let redlock = open("data", "watch");
    let lock = redlock.acquire("a", TTL).await.unwrap();
    lock.release().await.unwrap();
    let shown = format!("{redlock:?} {:?}", redlock.nodes().collect::<Vec<_>>());
    assert!(
        !shown.contains("data\"") && !shown.contains("watch"),
        "{shown}"
    );
    for (server, sentinel, says) in [
        ("wrong", "watch", "password"),
        ("data", "wrong", "password"),
    ] {
        let error = open(server, sentinel).acquire("a", TTL).await.unwrap_err();
        assert!(matches!(error, Error::NoQuorum(_)), "{error}");
        let text = error.to_string();
        assert!(text.to_lowercase().contains(says), "{text}");
        assert!(
            !text.contains("wrong@") && !text.contains("data@"),
            "{text}"
        );
    }
}

/// Waits until the node does not vote any more, and says why.
async fn fails(node: &SentinelNode) -> BackendError {
    let start = Instant::now();
    loop {
        match ask(node, &resource(usize::MAX)).await {
            Err(error) => return error,
            Ok(_) => assert!(start.elapsed() < Duration::from_secs(15), "it votes on"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_of_the_sentinels_has_to_answer() {
    let mut group = SentinelGroup::start();
    group.sentinel_servers()[2].pause();
    let node = node(&group);
    grants_again(&node).await;
    sleep(Duration::from_secs(4)).await;
    assert!(
        ask(&node, &resource(1)).await.is_ok(),
        "two of three are enough"
    );

    // Whoever is cut off from them does not learn of another master.
    group.sentinel_servers_mut()[1].kill();
    fails(&node).await;
    let fresh = self::node(&group);
    let error = ask(&fresh, &resource(0)).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unreachable);
    assert!(error.to_string().contains("1 of 3 sentinels"), "{error}");
    assert!(!error.may_have_happened());
    group.sentinel_servers_mut()[1].restart();
    grants_again(&fresh).await;
    grants_again(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_noticed_also_by_who_may_not_subscribe() {
    let mut group = SentinelGroup::start();
    for sentinel in group.sentinel_servers() {
        // Without channels, as is the default of a new user.
        let user = ["ACL", "SETUSER", "watch", "on", ">pw", "~*", "+@all"];
        assert_eq!(sentinel.cli(&user), "OK");
    }
    let urls = sentinels(&group).into_iter();
    let urls = urls.map(|url| url.replace("//", "//watch:pw@"));
    let node = SentinelNode::new(urls, "mymaster").unwrap();
    let old = group.master();
    grants_again(&node).await;
    group.failover();
    let new = group.master_other_than(old);
    // Asked every second.
    sleep(Duration::from_secs(3)).await;
    let granted = granted_until(&node, 0, Instant::now() + Duration::from_secs(2)).await;
    assert!(granted.len() > 20, "{} votes", granted.len());
    all_on(group.server_at(new), &granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_named_anew_without_a_failover_is_found() {
    let group = SentinelGroup::start();
    let node = node(&group);
    grants_again(&node).await;
    let other = &group.servers()[1];
    assert_eq!(other.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    let port = other.address().port().to_string();
    for sentinel in group.sentinel_servers() {
        let _ = sentinel.cli(&["SENTINEL", "REMOVE", "mymaster"]);
        let monitor = ["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "2"];
        assert_eq!(sentinel.cli(&monitor), "OK");
    }
    let start = Instant::now();
    for number in 0.. {
        let (resource, value) = (resource(number), LockValue::random());
        if let Ok(Vote::Granted) = node.acquire(&resource, &value, TTL).await
            && other.cli(&["GET", &resource[0]]) == value.as_str()
        {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "it stays where it was"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_does_not_allow_waiting_is_not_dialled_without_pause() {
    let group = SentinelGroup::start();
    let user = [
        "ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-wait",
    ];
    assert_eq!(group.servers()[0].cli(&user), "OK");
    let node = SentinelNode::builder()
        .server("redis://app:pw@master")
        .acknowledged_by(1, Duration::from_millis(100))
        .open(sentinels(&group), "mymaster")
        .unwrap();
    let dials = || -> u64 {
        let stats = group.sentinel_servers()[0].cli(&["INFO", "stats"]);
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = dials();
    let end = Instant::now() + Duration::from_secs(2);
    let mut is_said = false;
    while Instant::now() < end {
        let error = ask(&node, &resource(0)).await.unwrap_err();
        is_said |= error.to_string().contains("no permissions");
    }
    assert!(is_said, "what is wrong");
    assert!(dials() < before + 20, "{} dials", dials() - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_that_it_is_no_master_is_not_used() {
    let group = SentinelGroup::start();
    let port = group.servers()[1].address().port().to_string();
    // By hand, and against the sentinels, who still name it for a while.
    let demoted = group.servers()[0].cli(&["REPLICAOF", "127.0.0.1", &port]);
    assert_eq!(demoted, "OK");
    let error = ask(&node(&group), &resource(0)).await.unwrap_err();
    assert!(error.to_string().contains("no master"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_master_name_is_said() {
    let group = SentinelGroup::start();
    let node = SentinelNode::new(sentinels(&group), "nobody").unwrap();
    let error = node
        .acquire(&resource(0), &LockValue::random(), TTL)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("0 of 3 sentinels name a master"),
        "{error}"
    );
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let nobody: [&str; 0] = [];
    assert!(SentinelNode::new(nobody, "m").is_err());
    assert!(SentinelNode::new(["http://h"], "m").is_err());
    let bad = SentinelNode::builder().server("http://master");
    assert!(bad.open(["redis://h:26379"], "m").is_err());
    assert!(SentinelNode::new(["redis://h:1", "redis://H:1"], "m").is_err());
    // Certificates are for those who speak TLS.
    let certificates = redlock::redis_rs::redis::TlsCertificates {
        client_tls: None,
        root_cert: None,
    };
    let settings = RedisNode::builder().tls_certificates(certificates);
    for (server, sentinel) in [("rediss", "redis"), ("redis", "rediss")] {
        let node = SentinelNode::builder()
            .settings(settings.clone())
            .server(format!("{server}://master"))
            .open([format!("{sentinel}://h:1")], "m");
        assert!(node.is_ok(), "{:?}", node.err());
    }
    let one = SentinelNode::new(["redis://h:1", "redis://h:2"], "m").unwrap();
    let same = SentinelNode::new(["redis://H:2", "redis://h:1"], "m").unwrap();
    assert!(Redlock::new([one, same]).is_err(), "the same group twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_no_replica_has_acknowledged_does_not_count_and_is_released() {
    let group = SentinelGroup::start();
    let node = SentinelNode::builder()
        .settings(RedisNode::builder().key_prefix("lock:"))
        .acknowledged_by(2, Duration::from_millis(200))
        .open(sentinels(&group), "mymaster")
        .unwrap();
    let master = &group.servers()[0];
    let value = LockValue::random();
    for number in 0..3 {
        let vote = node.acquire(&resource(number), &value, TTL).await.unwrap();
        assert_eq!(vote, Vote::Granted);
        assert_eq!(
            group.servers()[1].cli(&["GET", &format!("lock:r{number}")]),
            value.as_str()
        );
    }
    // Many at once share the waiting.
    let many: Vec<_> = (100..200)
        .map(|number| {
            let (node, value) = (node.clone(), value.clone());
            tokio::spawn(async move { node.acquire(&resource(number), &value, TTL).await })
        })
        .collect();
    for vote in many {
        assert_eq!(vote.await.unwrap().unwrap(), Vote::Granted);
    }

    group.servers()[1].pause();
    let error = node.acquire(&resource(9), &value, TTL).await.unwrap_err();
    assert!(error.to_string().contains("1 of 2 replicas"), "{error}");
    assert!(!error.may_have_happened(), "it was released");
    assert_eq!(master.cli(&["EXISTS", "lock:r9"]), "0");
    // An extension that is not acknowledged releases nothing.
    let error = node.extend(&resource(0), &value, TTL).await.unwrap_err();
    assert!(error.to_string().contains("1 of 2 replicas"), "{error}");
    assert_eq!(master.cli(&["GET", "lock:r0"]), value.as_str());
    assert_eq!(
        node.release(&resource(0), &value).await.unwrap(),
        Vote::Granted
    );

    group.servers()[1].resume();
    let again = async {
        while node.acquire(&resource(10), &value, TTL).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(15), again)
        .await
        .expect("it votes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_cut_off_from_its_replicas_is_an_error_and_votes_again() {
    let group = Program::system().start_sentinel(&SentinelConfig {
        args: &[
            "--min-replicas-to-write",
            "1",
            "--min-replicas-max-lag",
            "1",
        ],
        ..SentinelConfig::default()
    });
    let node = node(&group);
    grants_again(&node).await;
    for replica in &group.servers()[1..] {
        replica.pause();
    }
    let start = Instant::now();
    let error = loop {
        match ask(&node, &resource(0)).await {
            Err(error) if error.to_string().contains("NOREPLICAS") => break error,
            other => assert!(start.elapsed() < Duration::from_secs(15), "{other:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert!(!error.may_have_happened());
    for replica in &group.servers()[1..] {
        replica.resume();
    }
    grants_again(&node).await;
}

#[test]
fn a_node_outlives_the_runtime_that_found_the_master() {
    let group = SentinelGroup::start();
    let node = node(&group);
    for _ in 0..2 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(grants_again(&node));
    }
    let _: SocketAddr = group.master();
}

/// Nobody has told it yet that the master was replaced, which still takes writes.
#[test]
fn who_stood_still_during_a_failover_counts_no_vote_of_the_former_master() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    for _ in 0..3 {
        let mut group = SentinelGroup::start();
        // Nothing of it runs but within `block_on`.
        let (paused, redlock) = (runtime(), Redlock::new([node(&group)]).unwrap());
        let works = async {
            while let Err(error) = redlock.try_acquire("a", TTL).await.map(drop) {
                println!("{error}");
                sleep(Duration::from_millis(50)).await;
            }
        };
        paused.block_on(works);
        let old = group.master();
        group.failover();
        let new = group.master_other_than(old);
        std::thread::sleep(Duration::from_millis(3100));
        let granted = paused.block_on(redlock.try_acquire("b", TTL));
        if granted.is_ok() {
            assert_eq!(
                group.server_at(new).cli(&["EXISTS", "b"]),
                "1",
                "the former master voted"
            );
        }
    }
}
