//! Whoever waits is told by the servers when it is time to try. The delays between attempts are so long that no test
//! ends by them.

use std::{
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use redlock::{
    Error, FredNode, Lock, LockBackend, LockValue, Place, RedisNode, Redlock, Resources,
    SentinelNode, TURN, Vote,
};
use redlock_test::server::{Program, RedisServer, SentinelGroup};
use tests::{
    DRIVERS, TTL, as_limited, calls, eventually, eventually_clean, limit, sentinels, warm,
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// Before any lease in these tests ends by itself.
const SOON: Duration = Duration::from_secs(15);

fn process<B: LockBackend>(servers: &[RedisServer], node: impl Fn(&str) -> B) -> Redlock {
    Redlock::new(servers.iter().map(|server| node(&server.url()))).expect("distinct servers")
}

fn waits(process: Redlock, resource: &'static str) -> JoinHandle<Lock> {
    waits_for(process, [resource])
}

fn waits_for<const N: usize>(process: Redlock, resources: [&'static str; N]) -> JoinHandle<Lock> {
    tokio::spawn(async move {
        // A failure for another reason would end the test before it begins.
        warm(&process).await;
        let seldom = iter::repeat_n(Duration::from_secs(1000), 3);
        let lock = process.acquire_with_retry(resources, TTL, seldom).await;
        lock.expect("it is free in the end")
    })
}

async fn gets(waiting: JoinHandle<Lock>) -> Lock {
    let lock = timeout(SOON, waiting).await.expect("it is told");
    lock.expect("it does not panic")
}

/// How many wait at these servers for the resource.
fn waiting(servers: &[RedisServer], resource: &str) -> usize {
    let line = format!("{resource}:redlock:line");
    let length = |server: &RedisServer| server.cli(&["LLEN", &line]).trim().parse().unwrap_or(0);
    servers.iter().map(length).sum::<usize>()
}

async fn eventually_waiting(servers: &[RedisServer], resource: &str, count: usize) {
    let what = format!("{count} wait for {resource}");
    eventually(&what, || waiting(servers, resource) == count).await;
}

async fn is_handed_on<B: LockBackend>(node: impl Fn(&str) -> B + Copy) {
    let servers = RedisServer::start_many(3);
    let held = process(&servers, node)
        .acquire("a", TTL)
        .await
        .expect("it is free");
    let mut all = Vec::new();
    for number in 0..5 {
        let waits = waits(process(&servers, node), "a");
        all.push(tokio::spawn(async move {
            let lock = gets(waits).await;
            lock.release().await.expect("it is ours");
        }));
        eventually_waiting(&servers, "a", number + 1).await;
    }
    let told = || {
        let told = servers.iter().map(|server| calls(server, "publish"));
        told.sum::<u64>()
    };
    let before = told();
    held.release().await.expect("it is ours");
    for waited in all {
        waited.await.expect("it does not panic");
    }
    // One of them may have looked by itself just then.
    assert!(told() >= before + 4);
    eventually_clean(&servers).await;
}

fn redis_rs(url: &str) -> RedisNode {
    RedisNode::new(url).expect("a URL")
}

fn fred(url: &str) -> FredNode {
    FredNode::new(url).expect("a URL")
}

#[tokio::test]
async fn redis_rs_a_release_is_told_to_one_after_the_other() {
    is_handed_on(redis_rs).await;
}

#[tokio::test]
async fn fred_a_release_is_told_to_one_after_the_other() {
    is_handed_on(fred).await;
}

#[tokio::test]
async fn drivers_tell_each_other() {
    let servers = RedisServer::start_many(3);
    let (one, other) = (process(&servers, redis_rs), process(&servers, fred));
    for (ours, theirs) in [(&one, &other), (&other, &one)] {
        let held = ours.acquire("a", TTL).await.expect("it is free");
        let waits = waits(theirs.clone(), "a");
        eventually_waiting(&servers, "a", 1).await;
        held.release().await.expect("it is ours");
        gets(waits).await.release().await.expect("it is ours");
    }
}

#[tokio::test]
async fn sentinel_a_release_is_told() {
    let groups: Vec<_> = (0..3).map(|_| SentinelGroup::start()).collect();
    let process = || {
        let node = |group| SentinelNode::new(sentinels(group), group.master_name()).expect("URLs");
        Redlock::new(groups.iter().map(node)).expect("distinct groups")
    };
    let held = process().acquire("a", TTL).await.expect("it is free");
    let waits = waits(process(), "a");
    eventually("it waits", || {
        groups.iter().any(|group| waiting(group.servers(), "a") > 0)
    })
    .await;
    held.release().await.expect("it is ours");
    gets(waits).await.release().await.expect("it is ours");
}

#[tokio::test]
async fn what_ends_without_a_word_is_noticed() {
    let servers = RedisServer::start_many(3);
    // A lease that ends.
    let short = Duration::from_millis(1500);
    let _ = process(&servers, redis_rs)
        .acquire("a", short)
        .await
        .expect("it is free")
        .leak();
    gets(waits(process(&servers, redis_rs), "a"))
        .await
        .release()
        .await
        .expect("it is ours");
    // A lock that somebody else's library releases, or an operator.
    let _ = process(&servers, redis_rs)
        .acquire("b", TTL)
        .await
        .expect("it is free")
        .leak();
    let waits = waits(process(&servers, redis_rs), "b");
    eventually_waiting(&servers, "b", 1).await;
    for server in &servers {
        let _ = server.cli(&["DEL", "b"]);
    }
    gets(waits).await.release().await.expect("it is ours");
}

#[tokio::test]
async fn who_waits_for_several_stands_in_one_line() {
    let servers = RedisServer::start_many(1);
    for name in ["a", "b"] {
        let _ = servers[0].cli(&["SET", name, "another's", "PX", "60000"]);
    }
    let both = waits_for(process(&servers, redis_rs), ["a", "b"]);
    eventually_waiting(&servers, "a", 1).await;
    let _ = servers[0].cli(&["DEL", "a"]);
    eventually_waiting(&servers, "b", 1).await;
    assert_eq!(waiting(&servers, "a"), 0);
    both.abort();
}

#[tokio::test]
async fn a_connection_that_breaks_meanwhile_loses_nothing() {
    for node in DRIVERS {
        let servers = RedisServer::start_many(3);
        let held = process(&servers, node)
            .acquire("a", TTL)
            .await
            .expect("it is free");
        let waits = waits(process(&servers, node), "a");
        eventually_waiting(&servers, "a", 1).await;
        for server in &servers {
            let _ = server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            let _ = server.cli(&["CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"]);
        }
        // Its connections are broken as well; what they did not say is done in the background.
        let _ = held.release().await;
        gets(waits).await.release().await.expect("it is ours");
    }
}

#[tokio::test]
async fn where_it_is_forbidden_to_listen_locks_work_all_the_same() {
    let servers = RedisServer::start_many(3);
    for server in &servers {
        limit(
            server,
            "resetchannels ~a ~b +set +evalsha +eval +get +del +pttl +pexpire",
        );
    }
    let limited = |url: &str| redis_rs(&as_limited(url));
    let other = process(&servers, limited);
    let held = process(&servers, limited)
        .acquire("a", TTL)
        .await
        .expect("it is free");
    let often = Duration::from_millis(50);
    for _ in 0..3 {
        let tried = other.acquire_with_retry("a", TTL, iter::repeat_n(often, 3));
        assert!(matches!(tried.await, Err(Error::Locked(_))));
    }
    for server in &servers {
        let stats = server.cli(&["INFO", "commandstats"]);
        let stats = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_subscribe:"));
        // Nobody insists.
        assert!(stats.is_none_or(|it| it.trim().ends_with("rejected_calls=1,failed_calls=0")));
    }
    let waits = tokio::spawn(async move {
        other
            .acquire_with_retry("a", TTL, iter::repeat(often))
            .await
    });
    held.release().await.expect("it is ours");
    let lock = timeout(SOON, waits)
        .await
        .expect("it polls")
        .expect("it does not panic");
    lock.expect("it is free")
        .release()
        .await
        .expect("it is ours");
}

#[tokio::test]
async fn what_a_release_may_not_touch_beside_a_key_is_tried_once() {
    for node in DRIVERS {
        let servers = RedisServer::start_many(1);
        limit(&servers[0], "~? &* +@all");
        let limited = |url: &str| node(&as_limited(url));
        let process = process(&servers, limited);
        for name in ["a", "b", "a"] {
            let lock = process.acquire(name, TTL).await.expect("it is free");
            lock.release().await.expect("it is ours");
        }
        let both = process.acquire(["a", "b"], TTL).await;
        both.expect("free").release().await.expect("ours");
        let refused = servers[0].cli(&["ACL", "LOG"]);
        assert_eq!(refused.matches("redlock:awaited").count(), 1, "{refused}");
    }
}

#[tokio::test]
async fn an_attempt_that_is_undone_tells_nobody_and_a_release_does_also_where_it_holds_nothing() {
    for node in DRIVERS {
        let server = RedisServer::start();
        let node = node(&server.url());
        let (a, value) = (Resources::new(["a"]).expect("a name"), LockValue::random());
        let granted = node.acquire(&a, &value, TTL).await;
        assert_eq!(granted.expect("it is up"), Vote::Granted);
        // Who does not listen any more is taken out of the line by whoever passes the turn on.
        let _ = server.cli(&["RPUSH", "a:redlock:line", "redlock:wake:nobody 1"]);
        let _ = server.cli(&["SET", "a:redlock:awaited", "1"]);
        let undone = node.undo(&a, &value).await;
        assert_eq!(undone.expect("it is up"), Vote::Granted);
        assert_eq!(server.keys(), ["a:redlock:awaited", "a:redlock:line"]);
        let released = node.release(&a, &value).await;
        assert_eq!(released.expect("it is up"), Vote::Refused);
        assert_eq!(server.keys(), [""; 0]);
    }
}

#[tokio::test]
async fn a_release_is_whole_though_telling_of_it_is_forbidden() {
    for forbidden in ["-publish", "-lpop", "-set"] {
        let servers = RedisServer::start_many(1);
        limit(&servers[0], &format!("~* &* +@all {forbidden}"));
        let held = process(&servers, redis_rs).acquire(["a", "b"], TTL).await;
        let value = held.expect("they are free").leak();
        let waits = waits(process(&servers, redis_rs), "a");
        eventually_waiting(&servers, "a", 1).await;
        let limited = process(&servers, |url: &str| redis_rs(&as_limited(url)));
        let released = limited.release(["a", "b"], value).await;
        released.expect("they are ours");
        assert_eq!(servers[0].cli(&["EXISTS", "b"]).trim(), "0");
        gets(waits).await.release().await.expect("it is ours");
    }
}

#[tokio::test]
async fn only_the_first_in_line_is_told_of_every_change() {
    let servers = RedisServer::start_many(1);
    let server = &servers[0];
    // Of what keys the server tells whom.
    let told_of = || {
        let stats = server.cli(&["INFO", "stats"]);
        let told_of = stats
            .lines()
            .find_map(|line| line.strip_prefix("tracking_total_items:"));
        told_of.expect("it counts them").trim().to_owned()
    };
    let _ = server.cli(&["SET", "a", "another's", "PX", "600000"]);
    let mut all = Vec::new();
    for number in 0..4 {
        all.push(waits(process(&servers, redis_rs), "a"));
        eventually_waiting(&servers, "a", number + 1).await;
        eventually("the first is told of changes", || told_of() == "1").await;
    }
    assert_eq!(told_of(), "1");
    // Who leaves tells the second that it is the first now, and so does who comes.
    let told = calls(server, "publish");
    all.remove(0).abort();
    eventually_waiting(&servers, "a", 3).await;
    assert_eq!(calls(server, "publish"), told + 1);
    all.push(waits(process(&servers, redis_rs), "a"));
    eventually_waiting(&servers, "a", 4).await;
    assert_eq!(calls(server, "publish"), told + 2);
    let _ = server.cli(&["DEL", "a"]);
    for waits in all {
        gets(waits).await.release().await.expect("it is ours");
    }
}

#[tokio::test]
async fn who_has_waited_longest_comes_first_also_when_a_lease_ends() {
    for node in DRIVERS {
        let servers = RedisServer::start_many(3);
        for server in &servers {
            let _ = server.cli(&["SET", "a", "another's"]);
        }
        let (order, mut granted) = mpsc::unbounded_channel();
        let mut all = Vec::new();
        for number in 0..6 {
            let (waits, order) = (waits(process(&servers, node), "a"), order.clone());
            all.push(tokio::spawn(async move {
                let lock = gets(waits).await;
                order.send(number).expect("the test goes on");
                lock.release().await.expect("it is ours");
            }));
            eventually_waiting(&servers, "a", number + 1).await;
        }
        let time = servers[0].cli(&["TIME"]);
        let now: u64 = time
            .lines()
            .next()
            .and_then(|it| it.parse().ok())
            .expect("seconds");
        // All look before it ends.
        let end = (now + 3).to_string();
        for server in &servers {
            let _ = server.cli(&["EXPIREAT", "a", &end]);
        }
        for number in 0..6 {
            assert_eq!(granted.recv().await, Some(number));
        }
        for waited in all {
            waited.await.expect("it does not panic");
        }
    }
}

#[tokio::test]
async fn a_turn_of_who_has_to_wait_for_something_else_is_passed_on() {
    let servers = RedisServer::start_many(1);
    let server = &servers[0];
    let _ = server.cli(&["SET", "b", "another's"]);
    let (one, several) = (process(&servers, redis_rs), process(&servers, redis_rs));
    // On a starved machine whoever is behind may look before it is told.
    for _ in 0..10 {
        let held = one.acquire("a", TTL).await.expect("it is free");
        let both = waits_for(several.clone(), ["a", "b"]);
        eventually_waiting(&servers, "a", 1).await;
        let waits = waits(process(&servers, redis_rs), "a");
        eventually_waiting(&servers, "a", 2).await;
        let told = calls(server, "publish");
        held.release().await.expect("it is ours");
        let lock = gets(waits).await;
        let told = calls(server, "publish") - told;
        assert_eq!((waiting(&servers, "a"), waiting(&servers, "b")), (0, 1));
        both.abort();
        lock.release().await.expect("it is ours");
        eventually_waiting(&servers, "b", 0).await;
        if told == 2 {
            return;
        }
    }
    panic!("it is never passed on");
}

#[tokio::test]
async fn a_release_that_comes_late_leaves_a_turn_to_whom_it_was_given() {
    for node in DRIVERS {
        let server = RedisServer::start();
        let node = node(&server.url());
        let (a, value) = (Resources::new(["a"]).expect("a name"), LockValue::random());
        let _ = server.cli(&["RPUSH", "a:redlock:line", "redlock:wake:nobody 2"]);
        let mark = |whose: &str| server.cli(&["SET", "a:redlock:awaited", whose, "PX", "60000"]);
        let in_time = iter::repeat_with(Instant::now).take(10);
        for start in in_time {
            let _ = mark("redlock:wake:nobody 1");
            let released = node.release(&a, &value).await;
            assert_eq!(released.expect("it is up"), Vote::Refused);
            let kept = server.keys();
            // A turn is over soon.
            if start.elapsed() < TURN {
                assert_eq!(kept, ["a:redlock:awaited", "a:redlock:line"]);
                break;
            }
            let _ = server.cli(&["RPUSH", "a:redlock:line", "redlock:wake:nobody 2"]);
        }
        let _ = mark("1");
        let released = node.release(&a, &value).await;
        assert_eq!(released.expect("it is up"), Vote::Refused);
        assert_eq!(server.keys(), [""; 0]);
    }
}

#[tokio::test]
async fn who_takes_a_turn_stands_in_no_line_and_a_turn_that_was_of_no_use_is_over() {
    let servers = RedisServer::start_many(1);
    let server = &servers[0];
    let node = Arc::new(redis_rs(&server.url()));
    let waits = |names: &[&str], place| {
        let (node, names) = (Arc::clone(&node), Resources::new(names.iter().copied()));
        tokio::spawn(async move { node.wait(&names.expect("names"), place).await })
    };
    let _ = server.cli(&["SET", "a", "another's"]);
    let both = waits(&["a", "b"], Place::Last);
    eventually_waiting(&servers, "a", 1).await;
    let turn = "redis.call('DEL', 'a') \
        redis.call('SET', 'b:redlock:awaited', 'redlock:wake:0 1', 'PX', 60000)";
    let _ = server.cli(&["EVAL", turn, "0"]);
    let woken = timeout(SOON, both).await.expect("it is over some time");
    woken.expect("it does not panic").expect("the server is up");
    assert_eq!((waiting(&servers, "a"), waiting(&servers, "b")), (0, 0));

    let _ = server.cli(&["SET", "c", "another's"]);
    let _ = server.cli(&[
        "SET",
        "c:redlock:awaited",
        "redlock:wake:0 1",
        "PX",
        "60000",
    ]);
    let again = waits(&["c"], Place::First);
    eventually_waiting(&servers, "c", 1).await;
    assert_eq!(server.cli(&["GET", "c:redlock:awaited"]).trim(), "1");
    again.abort();
}

#[tokio::test]
async fn who_may_not_publish_waits_all_the_same() {
    for program in Program::found() {
        let servers = [program.start()];
        limit(&servers[0], "~* &* +@all -publish");
        let limited = |url: &str| redis_rs(&as_limited(url));
        let _ = servers[0].cli(&["SET", "a", "another's"]);
        let mut all = Vec::new();
        for number in 0..3 {
            let waits = waits(process(&servers, limited), "a");
            all.push(tokio::spawn(async move {
                gets(waits).await.release().await.expect("it is ours");
            }));
            eventually_waiting(&servers, "a", number + 1).await;
        }
        let _ = servers[0].cli(&["DEL", "a"]);
        for waited in all {
            waited.await.expect("it does not panic");
        }
    }
}

#[tokio::test]
async fn where_a_line_could_stay_for_ever_nobody_stands_in_it() {
    for program in Program::found() {
        let servers = [program.start()];
        limit(&servers[0], "~* &* +@all -pexpire");
        let _ = servers[0].cli(&["SET", "a", "another's"]);
        let process = process(&servers, |url: &str| redis_rs(&as_limited(url)));
        let soon = iter::repeat_n(Duration::from_millis(50), 3);
        let tried = process.acquire_with_retry("a", TTL, soon).await;
        assert!(matches!(tried, Err(Error::Locked(_))));
        assert_eq!(waiting(&servers, "a"), 0);
    }
}
