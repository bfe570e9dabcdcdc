//! Releases of one moment are one command to a server, and every one has its own outcome.

use std::{
    iter,
    sync::{Arc, mpsc},
};

use futures_util::{future::join_all, poll};
use redlock::{BackendError, LockBackend, LockValue, Redlock, Reply, Resources, Vote};
use redlock_test::server::{Program, RedisServer};
use tests::{DRIVERS, TTL, as_limited, calls, eventually, limit};
use tokio::{sync::oneshot, time::timeout};

type Votes = Vec<Result<Vote, BackendError>>;

/// How many commands a server has refused, also of scripts.
fn refused(server: &RedisServer) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let rejected = stats
        .split(',')
        .filter_map(|it| it.strip_prefix("rejected_calls="));
    rejected
        .map(|count| count.parse::<u64>().expect("a number"))
        .sum()
}

/// The letters, each a lock.
async fn taken(node: &impl LockBackend) -> Vec<(Resources, LockValue)> {
    let letters = ('a'..='z').map(|letter| Resources::new([letter.to_string()]).expect("a name"));
    let locks: Vec<_> = letters.zip(iter::repeat_with(LockValue::random)).collect();
    let asked = (locks.iter()).map(|(name, value)| node.acquire(name, value, TTL));
    for vote in join_all(asked).await {
        assert_eq!(vote.expect("it is up"), Vote::Granted);
    }
    locks
}

/// Releases all of them at one moment.
async fn released(node: &impl LockBackend, locks: &[(Resources, LockValue)]) -> Votes {
    let released = locks.iter().map(|(name, value)| async move {
        let (reply, answer) = Reply::new();
        match node.begin_release(name, value, reply) {
            Ok(()) => answer.await,
            Err(_) => node.release(name, value).await,
        }
    });
    join_all(released).await
}

fn all_granted(votes: Votes) {
    for vote in votes {
        assert_eq!(vote.expect("it is up"), Vote::Granted);
    }
}

#[tokio::test]
async fn of_many_releases_each_has_its_own_outcome() {
    for driver in DRIVERS {
        let server = RedisServer::start();
        let node = driver(&server.url());
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
}

#[tokio::test]
async fn who_waits_is_told_of_a_release_among_many() {
    for driver in DRIVERS {
        let server = RedisServer::start();
        let (ours, theirs) = (driver(&server.url()), driver(&server.url()));
        let locks = taken(&ours).await;
        all_granted(released(&ours, &locks[..1]).await);
        let redlock = Redlock::new([theirs]).expect("one node");
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
        let lock = timeout(TTL / 2, waits).await;
        let lock = lock.expect("it is told").expect("it does not panic");
        lock.expect("it is free")
            .release()
            .await
            .expect("it is ours");
        eventually("no key remains", || server.keys().is_empty()).await;
    }
}

#[tokio::test]
async fn a_server_that_refuses_to_release_many_at_once_releases_each_by_itself() {
    for driver in DRIVERS {
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
        limit(&limited, "~? &* +@all");
        // What a release alone takes.
        let restrained: Vec<_> = Program::found().iter().map(Program::start).collect();
        for server in &restrained {
            limit(server, "~* &* +@connection +set +get +del +eval +evalsha");
        }
        let forgetful = RedisServer::start();
        let others = restrained
            .iter()
            .map(|server| (server, as_limited(&server.url())));
        for (server, url) in [
            (&single, single.url()),
            (&limited, as_limited(&limited.url())),
            (&forgetful, forgetful.url()),
        ]
        .into_iter()
        .chain(others)
        {
            let (node, mut refusals) = (driver(&url), Vec::new());
            for _ in 0..4 {
                let locks = taken(&node).await;
                let _ = forgetful.cli(&["SCRIPT", "FLUSH"]);
                all_granted(released(&node, &locks).await);
                assert_eq!(server.keys(), [""; 0]);
                refusals.push(refused(server));
            }
            if url != forgetful.url() {
                assert_eq!(
                    refusals[2], refusals[3],
                    "it is asked again for what it refuses"
                );
            }
        }
        let crossed = single.cli(&["INFO", "errorstats"]);
        assert!(crossed.contains("errorstat_CROSSSLOT"), "{crossed}");
        for server in restrained {
            let denied = server.cli(&["ACL", "LOG"]);
            assert!(denied.contains("mget"), "{denied}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_thread_that_is_blocked() {
    for driver in DRIVERS {
        let server = RedisServer::start();
        let node = driver(&server.url());
        let locks = taken(&node).await;
        server.pause();
        let mut awaited: Vec<_> = (locks[..2].iter())
            .map(|(name, value)| node.release(name, value))
            .collect();
        for released in &mut awaited {
            assert!(poll!(released).is_pending());
        }
        let (blocked, is_blocked) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let (theirs, other) = (Arc::clone(&node), locks[2].clone());
        let last = tokio::spawn(async move {
            let (reply, answer) = Reply::new();
            let begun = theirs.begin_release(&other.0, &other.1, reply);
            begun.expect("it is connected");
            blocked.send(()).expect("awaited");
            ended.recv().expect("it ends");
            answer.await
        });
        is_blocked.await.expect("it begins");
        let (reply, answer) = Reply::new();
        let begun = node.begin_release(&locks[3].0, &locks[3].1, reply);
        begun.expect("it is connected");
        server.resume();
        let vote = timeout(TTL / 2, answer).await.expect("it is sent");
        assert_eq!(vote.expect("it is up"), Vote::Granted);
        end.send(()).expect("awaited");
        all_granted(join_all(awaited).await);
        all_granted(vec![last.await.expect("it does not panic")]);
    }
}
