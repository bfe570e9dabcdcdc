//! What the tests share: servers, the command on them, and waiting for what it does.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "not every test uses all of it"
)]

pub mod terminal;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use redlock_test::server::RedisServer;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Shorter than the default ttl, which could end by itself what is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The command, without anything that the environment of the tests says about it.
pub fn redlock<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redlock"));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("REDLOCK_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The command on these servers.
pub fn on<'a>(servers: &[RedisServer], args: impl IntoIterator<Item = &'a str>) -> Command {
    let urls: Vec<_> = servers.iter().map(RedisServer::url).collect();
    let mut command = redlock(args);
    command.env("REDLOCK_NODES", urls.join(" "));
    command
}

/// Three servers, and a file for the command to write to.
pub struct Fixture {
    pub servers: Vec<RedisServer>,
    directory: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        Self {
            servers: RedisServer::start_many(3),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("file")
    }
}

/// What stands on standard output.
pub fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What stands on standard error.
pub fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts that it ended with this code, and says what it wrote otherwise.
#[track_caller]
pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

/// Runs it to its end, which has to come with this code and one line that contains this.
#[track_caller]
pub fn assert_complains(command: &mut Command, code: i32, about: &str) {
    let output = command.output().unwrap();
    assert_code(&output, code);
    let line = complained(&output);
    assert!(
        line.starts_with("redlock: ") && line.contains(about),
        "{line:?}"
    );
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    assert_eq!(said(&output), "");
}

/// Waits until the question is answered.
#[track_caller]
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, ask).unwrap_or_else(|| panic!("never: {what}"))
}

/// The answer, if it comes in this time.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        sleep(Duration::from_millis(5));
    }
}

/// The whole lines of a file as numbers, once there are so many.
#[track_caller]
pub fn numbers(file: &Path, count: usize) -> Vec<i32> {
    eventually("the numbers are written", || {
        let text = fs::read_to_string(file).ok()?;
        let whole = &text[..=text.rfind('\n')?];
        let numbers: Vec<_> = whole
            .split_whitespace()
            .map(|it| it.parse().unwrap())
            .collect();
        (numbers.len() >= count).then_some(numbers)
    })
}

/// What the system calls the state of a process, such as `T` of one that is stopped.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether the process exists and is no zombie.
pub fn runs(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// Whether the process exists, be it as a zombie.
pub fn exists(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Takes the lock away from everybody else; the value it has.
#[track_caller]
pub fn hold(servers: &[RedisServer], resource: &str) -> String {
    let output = on(servers, ["acquire", resource]).output().unwrap();
    assert_code(&output, 0);
    said(&output).trim_end().to_owned()
}

/// Asserts that no server has a key, now.
#[track_caller]
pub fn assert_clean(servers: &[RedisServer]) {
    for server in servers {
        assert_eq!(server.keys(), [""; 0]);
    }
}

/// Gives a command what was set in the environment of another, and takes what was removed.
pub fn adopt_environment(command: &mut Command, other: &Command) {
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// Has the server do what is answered by `OK` or 1.
#[track_caller]
pub fn order(server: &RedisServer, args: &[&str]) {
    let reply = server.cli(args);
    assert!(["OK", "1"].contains(&reply.as_str()), "{args:?}: {reply}");
}
