//! Releases of one moment are one command to each server, and every one has its own outcome.

use std::iter;

use futures_util::future::join_all;
use redlock::{BackendError, LockBackend, LockValue, RedisNode, Reply, Resources, Vote};
use redlock_test::server::RedisServer;
use tests::{TTL, calls, eventually};

type Votes = Vec<Result<Vote, BackendError>>;

fn node(url: &str) -> RedisNode {
    RedisNode::new(url).expect("a URL")
}

/// The letters, each a lock.
async fn taken(node: &RedisNode) -> Vec<(Resources, LockValue)> {
    let letters = ('a'..='z').map(|letter| Resources::new([letter.to_string()]).expect("a name"));
    let locks: Vec<_> = letters.zip(iter::repeat_with(LockValue::random)).collect();
    let asked = (locks.iter()).map(|(name, value)| node.acquire(name, value, TTL));
    for vote in join_all(asked).await {
        assert_eq!(vote.expect("it is up"), Vote::Granted);
    }
    locks
}

/// Releases all of them at one moment.
async fn released(node: &RedisNode, locks: &[(Resources, LockValue)]) -> Votes {
    let answers = locks.iter().map(|(name, value)| {
        let (reply, answer) = Reply::new();
        node.begin_release(name, value, reply)
            .expect("it is connected");
        answer
    });
    join_all(answers.collect::<Vec<_>>()).await
}

fn all_granted(votes: Votes) {
    for vote in votes {
        assert_eq!(vote.expect("it is up"), Vote::Granted);
    }
}

#[tokio::test]
async fn of_many_releases_each_has_its_own_outcome() {
    let server = RedisServer::start();
    let node = node(&server.url());
    let mut locks = taken(&node).await;
    // The server learns the script.
    all_granted(released(&node, &locks[25..]).await);
    let _ = server.cli(&["SET", "w", "somebody else's"]);
    let _ = server.cli(&["DEL", "x"]);
    let _ = server.cli(&["DEL", "y"]);
    let _ = server.cli(&["RPUSH", "y", "no lock at all"]);
    locks[25] = locks[21].clone();
    let before = calls(&server, "evalsha");
    let mut votes = released(&node, &locks).await;
    // Two requests are under way before any is joined; three of the others are done again, and the same one twice.
    let scripts = calls(&server, "evalsha") - before;
    assert!(scripts <= 8, "{scripts}");
    let twice = votes.pop().expect("26 votes");
    assert_eq!(twice.expect("it is up"), Vote::Refused);
    let error = votes.pop().expect("25 votes").expect_err("it is a list");
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    for _ in ["x", "w"] {
        let vote = votes.pop().expect("24 votes");
        assert_eq!(vote.expect("it is up"), Vote::Refused);
    }
    all_granted(votes);
    assert_eq!(server.keys(), ["w", "y"]);
}

#[tokio::test]
async fn who_waits_is_told_of_a_release_among_many() {
    let server = RedisServer::start();
    let (ours, theirs) = (node(&server.url()), node(&server.url()));
    let locks = taken(&ours).await;
    all_granted(released(&ours, &locks[..1]).await);
    let redlock = redlock::Redlock::new([theirs]).expect("one node");
    let waits = tokio::spawn(async move {
        let seldom = iter::repeat_n(TTL * 100, 3);
        redlock.acquire_with_retry("k", TTL, seldom).await
    });
    eventually("it waits", || {
        server.cli(&["LLEN", "k:redlock:line"]).trim() == "1"
    })
    .await;
    all_granted(released(&ours, &locks[1..]).await);
    assert_eq!(calls(&server, "publish"), 1);
    let lock = tokio::time::timeout(TTL / 2, waits).await;
    let lock = lock.expect("it is told").expect("it does not panic");
    lock.expect("it is free")
        .release()
        .await
        .expect("it is ours");
    eventually("no key remains", || server.keys().is_empty()).await;
}

#[tokio::test]
async fn a_server_that_refuses_to_release_many_at_once_releases_each_by_itself() {
    let single = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let _ = single.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    eventually("the cluster is up", || {
        single
            .cli(&["CLUSTER", "INFO"])
            .contains("cluster_state:ok")
    })
    .await;
    let limited = RedisServer::start();
    // The mark beside a key has a longer name.
    let user = "ACL SETUSER limited on >secret ~? &* +@all";
    let _ = limited.cli(&user.split(' ').collect::<Vec<_>>());
    let as_limited = limited.url().replace("redis://", "redis://limited:secret@");
    let forgetful = RedisServer::start();
    for (server, url) in [
        (&single, single.url()),
        (&limited, as_limited),
        (&forgetful, forgetful.url()),
    ] {
        let node = node(&url);
        for _ in 0..3 {
            let locks = taken(&node).await;
            let _ = forgetful.cli(&["SCRIPT", "FLUSH"]);
            all_granted(released(&node, &locks).await);
            assert_eq!(server.keys(), [""; 0]);
        }
    }
    let crossed = single.cli(&["INFO", "errorstats"]);
    assert!(crossed.contains("errorstat_CROSSSLOT"), "{crossed}");
}
