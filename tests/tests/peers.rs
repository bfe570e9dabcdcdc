//! Lock libraries of other languages exclude ours, and ours theirs, on the same servers by the same names.

use std::{fs, io::Write, path::Path, time::Duration};

use redlock::Redlock;
use redlock_test::server::RedisServer;
use tests::{
    TTL, eventually_clean, nodes,
    peers::{self, CYCLES},
};
use tokio::time::{sleep, timeout};

async fn hold(log: &Path, servers: &[RedisServer]) {
    let redlock = Redlock::builder(nodes(servers.iter().map(RedisServer::url)))
        .retry_count(u32::MAX)
        .retry_delay(Duration::from_millis(20))
        .build()
        .unwrap();
    for _ in 0..CYCLES {
        let lock = redlock.acquire("shared", TTL).await.unwrap();
        say(log, "enter");
        sleep(Duration::from_millis(3)).await;
        say(log, "leave");
        lock.release().await.unwrap();
        // Or nobody else would get a turn.
        sleep(Duration::from_millis(20)).await;
    }
}

fn say(log: &Path, what: &str) {
    let mut log = fs::File::options()
        .append(true)
        .create(true)
        .open(log)
        .unwrap();
    log.write_all(format!("{what} ours\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_in_three_languages_never_overlap() {
    let servers = RedisServer::start_many(3);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("holds");
    let mut peers = peers::start(&log, &servers);
    let all = async {
        hold(&log, &servers).await;
        for peer in &mut peers {
            assert!(peer.wait().await.unwrap().success());
        }
    };
    let outcome = timeout(Duration::from_secs(120), all).await;
    outcome.expect("everybody gets their turns");
    peers::assert_turns(&log, 5);
    eventually_clean(&servers).await;
}
