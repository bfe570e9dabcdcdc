//! Several processes with several tasks each, on 1, 3 and 5 real servers.

use std::{fs, process::Stdio};

use redlock_test::server::RedisServer;
use tokio::process::Command;

const PROCESSES: u64 = 3;
const TASKS: u64 = 8;
const INCREMENTS: u64 = 5;

async fn no_increment_is_lost_on(nodes: usize) {
    let servers = RedisServer::start_many(nodes);
    let directory = tempfile::tempdir().unwrap();
    let counter = directory.path().join("counter");
    fs::write(&counter, "0").unwrap();
    let contenders: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(env!("CARGO_BIN_EXE_contender"))
                .arg(directory.path())
                .args([TASKS.to_string(), INCREMENTS.to_string()])
                .args(servers.iter().map(RedisServer::url))
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        })
        .collect();
    for contender in contenders {
        let output = contender.wait_with_output().await.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let count = fs::read_to_string(&counter).unwrap();
    assert_eq!(count, (PROCESSES * TASKS * INCREMENTS).to_string());
    tests::eventually_clean(&servers).await;
}

#[tokio::test]
async fn one_node() {
    no_increment_is_lost_on(1).await;
}

#[tokio::test]
async fn three_nodes() {
    no_increment_is_lost_on(3).await;
}

#[tokio::test]
async fn five_nodes() {
    no_increment_is_lost_on(5).await;
}
