//! What the command finds in its environment.

mod common;

use redlock_test::server::RedisServer;

use common::{assert_clean, assert_code, complained, on, said};

const REDLOCK: &str = env!("CARGO_BIN_EXE_redlock");

#[test]
fn its_resources_and_a_value_that_extends_the_lock() {
    let servers = RedisServer::start_many(3);
    let script =
        format!("echo \"$REDLOCK_RESOURCE\"; {REDLOCK} extend a b; {REDLOCK} extend --ttl 1h a");
    let output = on(&servers, ["run", "--shell", "b", "a", "--", &script]).output();
    let output = output.unwrap();
    assert_code(&output, 0);
    assert_eq!(
        (said(&output).as_str(), complained(&output).as_str()),
        ("a\nb\n", "")
    );
    assert_clean(&servers);
}

#[test]
fn the_inner_of_two_runs_wins() {
    let servers = RedisServer::start_many(3);
    let inner = "echo $REDLOCK_RESOURCE $REDLOCK_VALUE";
    let script = format!(
        "echo $REDLOCK_RESOURCE $REDLOCK_VALUE; {REDLOCK} run --shell inner -- '{inner}'; {inner}"
    );
    let output = on(&servers, ["run", "--shell", "outer", "--", &script]).output();
    let output = output.unwrap();
    assert_code(&output, 0);
    let said = said(&output);
    let lines: Vec<_> = said
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let [(a, outer), (b, inner), (c, again)] = lines[..] else {
        panic!("{output:?}");
    };
    assert_eq!((a, b, c), ("outer", "inner", "outer"));
    assert_eq!(outer, again);
    assert_ne!(outer, inner);
    assert_clean(&servers);
}

#[test]
fn arguments_reach_the_command_as_they_are() {
    let servers = RedisServer::start_many(1);
    let output = on(
        &servers,
        ["run", "a", "--", "printf", "<%s>", "-n", "two words", "--"],
    );
    let output = { output }.output().unwrap();
    assert_eq!(said(&output), "<-n><two words><-->");
    let script = r#"printf "<%s>" "$@""#;
    let output = on(
        &servers,
        ["run", "--shell", "a", "--", script, "two words", "$HOME"],
    )
    .output();
    assert_eq!(said(&output.unwrap()), "<two words><$HOME>");
}
