//! Who has left the process group of the command does not outlive the lock either.

mod common;

use std::{
    fs,
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use common::{
    Fixture, assert_clean, assert_code, eventually, exists, numbers, on, order, runs, send,
};

/// Ways out of the group, each to a process that ignores SIGTERM and adds its number to a file.
const WAYS_OUT: [&str; 3] = [
    "setsid sh -c \"$2\" sh $1 &",
    "setsid --fork sh -c \"$2\" sh $1",
    "set -m; timeout 60 sh -c \"$2\" sh $1 &",
];

const STUBBORN: &str =
    "trap '' TERM; echo $$ >>$1; n=0; while [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done";

impl Fixture {
    fn run(&self, script: &str) -> Command {
        let args = ["run", "--ttl", "8s", "--grace", "500ms", "--shell", "a"];
        let mut command = on(&self.servers, args.into_iter().chain(["--", script]));
        command.arg(self.file()).arg(STUBBORN);
        command
    }
}

/// A script that goes these ways, and then on when everybody is there.
fn ways_out(then: &str) -> String {
    let all = WAYS_OUT.join("\n");
    format!("{all}\nwhile [ \"$(wc -l <$1)\" -lt 3 ]; do sleep 0.05; done 2>/dev/null; {then}")
}

#[track_caller]
fn assert_gone(pids: &[i32]) {
    for pid in pids {
        assert!(!exists(*pid), "neither a process nor a zombie");
    }
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The processes that it has started, by what their command line begins with.
fn children(of: &Child, name: &str) -> Vec<i32> {
    let ps = ["-o", "pid=,args=", "--ppid", &of.id().to_string()];
    let output = Command::new("ps").args(ps).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(_, args)| args.starts_with(name));
    lines.map(|(pid, _)| pid.parse().unwrap()).collect()
}

fn watchdog(of: &Child) -> i32 {
    eventually("there is a watchdog", || {
        children(of, "redlock-watchdog").first().copied()
    })
}

#[test]
fn they_end_with_the_command_before_the_lock_is_released() {
    let fixture = Fixture::new();
    let output = fixture.run(&ways_out("exit 6")).output().unwrap();
    assert_gone(&numbers(&fixture.file(), 3));
    assert_code(&output, 6);
    assert_clean(&fixture.servers);
}

#[test]
fn the_lock_is_held_for_as_long_as_one_of_them_is_there() {
    let fixture = Fixture::new();
    let look = "redis-cli -u $SERVER GET a >>$1";
    // What is left is asked to end; this one takes no notice.
    let script = format!("trap '' TERM; setsid sh -c '{look}; sleep 0.5; {look}' sh $1 & exit 0");
    let mut run = on(&fixture.servers, ["run", "--shell", "a", "--", &script]);
    run.arg(fixture.file())
        .env("SERVER", fixture.servers[0].url());
    assert_code(&run.output().unwrap(), 0);
    let seen = fs::read_to_string(fixture.file()).unwrap();
    let seen: Vec<_> = seen.lines().filter(|value| !value.is_empty()).collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_clean(&fixture.servers);
}

#[test]
fn a_loss_ends_them() {
    let fixture = Fixture::new();
    let mut running = fixture.run(&ways_out("sleep 60")).spawn().unwrap();
    let pids = numbers(&fixture.file(), 3);
    for server in &fixture.servers {
        order(server, &["SET", "a", "another"]);
    }
    assert_eq!(running.wait().unwrap().code(), Some(76));
    assert_gone(&pids);
}

#[test]
fn sigkill_takes_them_along() {
    let fixture = Fixture::new();
    let mut running = fixture.run(&ways_out("sleep 60")).spawn().unwrap();
    let pids = numbers(&fixture.file(), 3);
    send(&running, Signal::KILL);
    running.wait().unwrap();
    for pid in pids {
        eventually("it is gone", || (!runs(pid)).then_some(()));
    }
}

#[test]
fn who_was_started_just_before_sigkill_is_known_by_the_value_of_the_lock() {
    let value = format!("known to {}", std::process::id());
    let mut watchdog = Command::new(env!("CARGO_BIN_EXE_redlock"));
    let watchdog = watchdog.arg0("redlock-watchdog").stdin(Stdio::piped());
    let mut watchdog = watchdog.spawn().unwrap();
    let mut told = watchdog.stdin.take().unwrap();
    writeln!(told, "REDLOCK_VALUE={value}").unwrap();
    let mut command = Command::new("sleep");
    let command = command.arg("60").env("REDLOCK_VALUE", value);
    let mut started = command.spawn().unwrap();
    // Killed before it could tell the group.
    drop(told);
    let ended = eventually("it is killed", || started.try_wait().unwrap());
    assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()));
    assert!(watchdog.wait().unwrap().success());
}

#[test]
fn the_command_dies_with_us_even_if_there_is_no_watchdog() {
    let fixture = Fixture::new();
    let script = "echo $$ >$1; exec sleep 60";
    let mut running = fixture.run(script).spawn().unwrap();
    let command = numbers(&fixture.file(), 1)[0];
    let watchdog = watchdog(&running);
    // So that it cannot be replaced.
    send(&running, Signal::STOP);
    kill(watchdog);
    send(&running, Signal::KILL);
    running.wait().unwrap();
    eventually("it is gone", || (!runs(command)).then_some(()));
}

#[test]
fn a_watchdog_that_is_killed_is_replaced() {
    let fixture = Fixture::new();
    let script = "trap '' TERM HUP; sleep 60 & echo $$ $! >$1; wait";
    let mut running = fixture.run(script).spawn().unwrap();
    let pids = numbers(&fixture.file(), 2);
    let first = watchdog(&running);
    kill(first);
    eventually("there is another", || {
        let now = children(&running, "redlock-watchdog");
        (now.len() == 1 && now[0] != first).then_some(())
    });
    send(&running, Signal::KILL);
    running.wait().unwrap();
    for pid in pids {
        eventually("it is gone", || (!runs(pid)).then_some(()));
    }
}
