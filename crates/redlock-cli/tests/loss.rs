//! When the lock is lost, nothing goes on as if it were not.

mod common;

use std::{
    io::{Write, pipe},
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use redlock_test::server::RedisServer;
use rustix::{io::ioctl_fionbio, process::Signal};

use common::{assert_code, complained, eventually, exists, numbers, on, send, within};

const TTL: Duration = Duration::from_secs(6);
const GRACE: Duration = Duration::from_secs(2);

/// Starts a script that is given a file, with this ttl and this grace.
fn start(servers: &[RedisServer], script: &str, file: &Path) -> Child {
    let args = [
        "run", "--ttl", "6s", "--grace", "2s", "--shell", "a", "--", script,
    ];
    on(servers, args).arg(file).spawn().unwrap()
}

fn kill_a_quorum(servers: &mut [RedisServer]) -> Instant {
    let lost = Instant::now();
    servers[..3].iter_mut().for_each(RedisServer::kill);
    lost
}

#[test]
fn a_command_that_ignores_sigterm_is_gone_with_its_grandchild_before_another_can_hold_the_lock() {
    let mut servers = RedisServer::start_many(5);
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let script = "trap '' TERM; sleep 60 & echo $$ $! >$1; wait";
    let running = start(&servers, script, &pids);
    let pids = numbers(&pids, 2);
    let lost = kill_a_quorum(&mut servers);

    let gone = within(2 * (TTL + GRACE), || {
        (!pids.iter().any(|pid| exists(*pid))).then(Instant::now)
    });
    let took = gone.expect("they are gone").duration_since(lost);
    assert!(took <= TTL + GRACE, "{took:?}");
    let output = running.wait_with_output().unwrap();
    assert_code(&output, 76);
    assert!(complained(&output).contains("lost"), "{output:?}");
}

#[test]
fn a_command_has_its_grace_before_the_lock_ends() {
    let mut servers = RedisServer::start_many(5);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let script = "trap 'echo 2 >>$1; exit 0' TERM; echo 1 >>$1; while :; do sleep 0.05; done";
    let running = start(&servers, script, &file);
    numbers(&file, 1);
    let lost = kill_a_quorum(&mut servers);

    let output = running.wait_with_output().unwrap();
    // It has just been acquired, so that it ends almost a ttl from now.
    assert!(lost.elapsed() < TTL, "{:?}", lost.elapsed());
    assert_eq!(numbers(&file, 2), [1, 2], "it was asked to end");
    // Whatever the command says: it was cut short.
    assert_code(&output, 76);
}

#[test]
fn keys_that_are_taken_away_end_the_command_at_the_next_extension() {
    let servers = RedisServer::start_many(3);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let running = start(&servers, "echo 1 >$1; exec sleep 60", &file);
    numbers(&file, 1);
    for server in &servers {
        assert_eq!(server.cli(&["SET", "a", "another"]), "OK");
    }
    let taken = Instant::now();
    let output = running.wait_with_output().unwrap();
    assert_code(&output, 76);
    assert!(taken.elapsed() < TTL, "{:?}", taken.elapsed());
    for server in &servers {
        assert_eq!(
            server.cli(&["GET", "a"]),
            "another",
            "it is not ours to release"
        );
    }
}

#[test]
fn a_loss_that_is_noticed_only_at_the_release_is_told() {
    let servers = RedisServer::start_many(1);
    let (host, port) = ("127.0.0.1", servers[0].address().port().to_string());
    let args = [
        "run",
        "a",
        "--",
        "redis-cli",
        "-h",
        host,
        "-p",
        &port,
        "DEL",
        "a",
    ];
    let output = on(&servers, args).output().unwrap();
    assert_code(&output, 76);
    assert!(complained(&output).contains("lost"), "{output:?}");
}

#[test]
fn a_minority_is_not_missed() {
    let mut servers = RedisServer::start_many(5);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let script = "echo 1 >>$1; sleep 7; echo 2 >>$1";
    let running = start(&servers, script, &file);
    numbers(&file, 1);
    servers[..2].iter_mut().for_each(RedisServer::kill);
    assert_code(&running.wait_with_output().unwrap(), 0);
    assert_eq!(numbers(&file, 2), [1, 2]);
}

#[test]
fn a_loss_that_is_noticed_late_is_granted_no_more_than_what_is_left_of_the_grace() {
    let servers = RedisServer::start_many(3);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let script = "trap '' TERM; echo $$ >$1; while :; do sleep 0.05; done";
    let running = start(&servers, script, &file);
    let command = numbers(&file, 1)[0];
    send(&running, Signal::STOP);
    eventually("the ttl ends it", || {
        let free = servers.iter().all(|server| server.keys().is_empty());
        free.then_some(())
    });
    send(&running, Signal::CONT);
    let noticed = Instant::now();
    assert_code(&running.wait_with_output().unwrap(), 76);
    assert!(noticed.elapsed() < GRACE, "{:?}", noticed.elapsed());
    assert!(!exists(command));
}

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_the_extensions() {
    let servers = RedisServer::start_many(3);
    let (reader, mut writer) = pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 512]).is_ok() {}
    ioctl_fionbio(&writer, false).unwrap();
    let args = [
        "-v", "run", "--ttl", "6s", "--grace", "100ms", "a", "--", "sleep", "9",
    ];
    let mut command = on(&servers, args);
    let mut running = command.stderr(writer).spawn().unwrap();
    let ended = eventually("it ends", || running.try_wait().unwrap());
    drop(reader);
    assert_eq!(ended.code(), Some(0), "it was held for longer than its ttl");
}
