//! One command at a time, and never twice.

mod common;

use std::{fs, process::Child};

use redlock_test::server::RedisServer;

use common::{assert_clean, assert_code, complained, on};

const CONTENDERS: usize = 20;
const INCREMENT: &str = r#"count=$(cat "$1"); sleep 0.01; echo $((count + 1)) >"$1""#;

#[test]
fn twenty_contenders_lose_no_increment() {
    let servers = RedisServer::start_many(5);
    let directory = tempfile::tempdir().unwrap();
    let counter = directory.path().join("counter");
    fs::write(&counter, "0\n").unwrap();
    let counter = counter.to_str().unwrap();
    let start = |_| -> Child {
        on(
            &servers,
            ["run", "--shell", "counter", "--", INCREMENT, counter],
        )
        .spawn()
        .unwrap()
    };
    let contenders: Vec<_> = (0..CONTENDERS).map(start).collect();
    for contender in contenders {
        assert_code(&contender.wait_with_output().unwrap(), 0);
    }
    let count = fs::read_to_string(counter).unwrap();
    assert_eq!(count.trim(), CONTENDERS.to_string());
    assert_clean(&servers);
}

#[test]
fn resources_are_locked_together() {
    let servers = RedisServer::start_many(3);
    let inner = format!(
        "{redlock} run -n c -- true && {redlock} run -n b -- true",
        redlock = env!("CARGO_BIN_EXE_redlock")
    );
    let output = on(&servers, ["run", "--shell", "a", "b", "--", &inner]).output();
    let output = output.unwrap();
    assert_code(&output, 75);
    assert_eq!(complained(&output), "redlock: \"b\": locked by another\n");
    assert_clean(&servers);
}
