//! Signals reach the command, and none of them leaves anything behind.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command},
    time::Instant,
};

use redlock_test::server::RedisServer;
use rustix::process::{Pid, Signal, kill_process_group};

use common::{
    Fixture, PATIENCE, adopt_environment, assert_clean, assert_code, assert_complains, complained,
    eventually, exists, hold, numbers, on, runs, send, state, within,
};

impl Fixture {
    fn script(&self, script: &str) -> Command {
        let mut command = on(&self.servers, ["run", "--shell", "a", "--", script]);
        command.arg(self.file());
        command
    }
}

fn lines(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// The code that it ends with, if it ends in time.
fn ended(running: &mut Child) -> Option<i32> {
    let status = within(PATIENCE / 2, || running.try_wait().unwrap());
    if status.is_none() {
        running.kill().unwrap();
    }
    status?.code()
}

/// Until it waits for a lock, of which `-v` tells.
fn until_it_waits(waiting: &mut Child) {
    let stderr = BufReader::new(waiting.stderr.as_mut().unwrap());
    let refused = |line: &str| line.contains("Refused");
    assert!(
        stderr
            .lines()
            .map_while(Result::ok)
            .any(|line| refused(&line))
    );
}

/// Whether somebody waits at one of the servers.
fn in_line(servers: &[RedisServer]) -> bool {
    servers
        .iter()
        .any(|server| server.keys().contains(&"a:redlock:line".to_owned()))
}

#[test]
fn sigterm_reaches_the_command_and_the_lock_is_released_before_we_exit() {
    let fixture = Fixture::new();
    let script = "trap 'echo 2 >>$1; exit 3' TERM; echo 1 >>$1; while :; do sleep 0.1; done";
    let mut running = fixture.script(script).spawn().unwrap();
    numbers(&fixture.file(), 1);
    send(&running, Signal::TERM);
    let status = running.wait().unwrap();
    assert_clean(&fixture.servers);
    assert_eq!(status.code(), Some(3), "that of the command");
    assert_eq!(lines(&fixture.file()), "1\n2\n");
}

#[test]
fn each_signal_is_passed_on_to_the_whole_group() {
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::TERM, "TERM"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let fixture = Fixture::new();
        // What a shell starts in the background ignores SIGINT and SIGQUIT: so here is a child in the foreground.
        let child =
            format!("trap 'echo 3 >>$1; exit' {name}; echo 1 >>$1; while :; do sleep 0.05; done");
        let script = format!("trap 'echo 3 >>$1; exit 9' {name}; sh -c \"$2\" sh $1; wait");
        let running = fixture.script(&script).arg(&child).spawn().unwrap();
        numbers(&fixture.file(), 1);
        send(&running, signal);
        assert_code(&running.wait_with_output().unwrap(), 9);
        assert_eq!(lines(&fixture.file()), "1\n3\n3\n", "{name}");
        assert_clean(&fixture.servers);
    }
}

#[test]
fn an_untrapped_signal_is_told_as_by_a_shell() {
    let fixture = Fixture::new();
    let running = fixture.script("echo 1 >$1; exec sleep 60").spawn().unwrap();
    numbers(&fixture.file(), 1);
    send(&running, Signal::TERM);
    assert_code(&running.wait_with_output().unwrap(), 128 + 15);
    assert_clean(&fixture.servers);
}

#[test]
fn a_second_signal_is_passed_on_as_the_first() {
    let fixture = Fixture::new();
    let script = "trap 'n=$((n + 1)); echo $n >>$1; [ $n = 2 ] && exit 5' TERM; \
                  echo 0 >>$1; while :; do sleep 0.05; done";
    let running = fixture.script(script).spawn().unwrap();
    numbers(&fixture.file(), 1);
    send(&running, Signal::TERM);
    assert_eq!(numbers(&fixture.file(), 2), [0, 1]);
    assert!(!fixture.servers[0].keys().is_empty(), "it is still held");
    send(&running, Signal::TERM);
    assert_code(&running.wait_with_output().unwrap(), 5);
    assert_clean(&fixture.servers);
}

#[test]
fn what_was_to_be_ignored_is_ignored_by_the_command_too() {
    let fixture = Fixture::new();
    let run = fixture.script("echo 1 >$1; kill -HUP $$; kill -HUP $PPID; sleep 0.2; exit 4");
    let mut nohup = Command::new("nohup");
    nohup.arg(run.get_program()).args(run.get_args());
    adopt_environment(&mut nohup, &run);
    assert_code(&nohup.output().unwrap(), 4);
}

#[test]
fn sigkill_takes_the_command_and_its_grandchild_along_and_leaves_the_lock_to_its_ttl() {
    let fixture = Fixture::new();
    let script = "trap '' TERM HUP; sleep 60 & echo $$ $! >$1; wait";
    let mut run = fixture.script(script);
    let mut running = run.process_group(0).spawn().unwrap();
    let pids = numbers(&fixture.file(), 2);
    let start = Instant::now();
    kill_process_group(Pid::from_child(&running), Signal::KILL).unwrap();
    running.wait().unwrap();
    for pid in pids {
        eventually("it is gone", || (!runs(pid)).then_some(()));
    }
    assert!(start.elapsed() < PATIENCE);
    let left: i64 = fixture.servers[0].cli(&["PTTL", "a"]).parse().unwrap();
    assert!((1..=30_000).contains(&left), "{left}");
}

#[test]
fn what_the_command_leaves_behind_ends_with_it_and_is_buried() {
    let fixture = Fixture::new();
    // The second ignores SIGTERM until it is killed.
    let script = "sleep 60 & echo $! >>$1; trap '' TERM; sleep 60 & echo $! >>$1; exit 6";
    let args = ["run", "--grace", "300ms", "--shell", "a", "--", script];
    let output = on(&fixture.servers, args)
        .arg(fixture.file())
        .output()
        .unwrap();
    for pid in numbers(&fixture.file(), 2) {
        assert!(!exists(pid), "neither a process nor a zombie");
    }
    assert_code(&output, 6);
    assert_clean(&fixture.servers);
}

#[test]
fn nothing_of_ours_stays_behind() {
    let fixture = Fixture::new();
    // Our own processes: the command, and beside it the watchdog.
    let script = "ps -o pid= --ppid $PPID | grep -vx \" *$$\" >$1";
    assert_code(&fixture.script(script).output().unwrap(), 0);
    let others = numbers(&fixture.file(), 1);
    assert!(!others.is_empty(), "there is a watchdog");
    assert!(!others.into_iter().any(exists));
}

#[test]
fn a_signal_ends_the_wait_and_leaves_nothing() {
    let servers = RedisServer::start_many(3);
    let value = hold(&servers, "a");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        for args in [
            &["-v", "run", "a", "b", "--", "true"][..],
            &["-v", "acquire", "a", "b"],
        ] {
            let mut waiting = on(&servers, args.iter().copied()).spawn().unwrap();
            until_it_waits(&mut waiting);
            eventually("it stands in a line", || in_line(&servers).then_some(()));
            send(&waiting, signal);
            let output = waiting.wait_with_output().unwrap();
            for server in &servers {
                assert_eq!(server.keys(), ["a"]);
            }
            assert_code(&output, code);
            assert!(
                complained(&output).ends_with("the wait was interrupted\n"),
                "{output:?}"
            );
        }
    }
    assert_complains(&mut on(&servers, ["acquire", "-n", "a"]), 75, "a");
    assert_code(
        &on(&servers, ["release", "a", "--value", &value])
            .output()
            .unwrap(),
        0,
    );
}

#[test]
fn who_gives_up_leaves_nothing() {
    let servers = RedisServer::start_many(3);
    hold(&servers, "a");
    let mut waiting = on(&servers, ["acquire", "--wait", "4s", "a"])
        .spawn()
        .unwrap();
    eventually("it stands in a line", || in_line(&servers).then_some(()));
    assert_eq!(ended(&mut waiting), Some(75));
    for server in &servers {
        assert_eq!(server.keys(), ["a"]);
    }
}

#[test]
fn who_waits_goes_on_as_soon_as_the_lock_is_free() {
    let servers = RedisServer::start_many(3);
    let value = hold(&servers, "a");
    let start = Instant::now();
    let mut waiting = on(&servers, ["-v", "run", "a", "--", "echo", "done"])
        .spawn()
        .unwrap();
    until_it_waits(&mut waiting);
    assert_code(
        &on(&servers, ["release", "a", "--value", &value])
            .output()
            .unwrap(),
        0,
    );
    let output = waiting.wait_with_output().unwrap();
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"done\n");
    assert!(start.elapsed() < PATIENCE, "before the ttl could free it");
}

#[test]
fn signals_that_were_blocked_at_the_start_arrive() {
    let fixture = Fixture::new();
    for (script, code) in [("exit 4", 4), ("kill -TERM $PPID; sleep 20", 143)] {
        let run = fixture.script(script);
        let mut env = Command::new("env");
        env.arg("--block-signal")
            .arg(run.get_program())
            .args(run.get_args());
        adopt_environment(&mut env, &run);
        assert_eq!(ended(&mut env.spawn().unwrap()), Some(code));
        assert_clean(&fixture.servers);
    }
}

#[test]
fn what_is_stopped_hears_that_it_is_to_end() {
    let fixture = Fixture::new();
    let script = "trap 'echo 2 >>$1; exit 3' TERM; echo $$ >>$1; kill -STOP $$; sleep 20";
    let mut running = fixture.script(script).spawn().unwrap();
    let command = numbers(&fixture.file(), 1)[0];
    eventually("it is stopped", || {
        (state(command) == Some('T')).then_some(())
    });
    send(&running, Signal::TERM);
    assert_eq!(ended(&mut running), Some(3));
    assert_eq!(numbers(&fixture.file(), 2), [command, 2]);
}
