//! Somebody is left of the command whom we may not end: one who has become another user. Only root can set that up.

mod common;

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use redlock_test::server::RedisServer;
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use common::{adopt_environment, assert_code, complained, eventually, numbers, on, runs};

const NOBODY: u32 = 65_534;

/// A place where a user who is not root may become root.
struct Fixture {
    servers: Vec<RedisServer>,
    directory: TempDir,
}

impl Fixture {
    /// Nothing where it cannot be set up.
    fn new() -> Option<Self> {
        if !getuid().is_root() {
            eprintln!("skipped: only root may become somebody else");
            return None;
        }
        let fixture = Self {
            servers: RedisServer::start_many(3),
            directory: tempfile::tempdir().unwrap(),
        };
        for (program, mode) in [
            ("/usr/bin/setpriv", "4755"),
            (env!("CARGO_BIN_EXE_redlock"), "755"),
        ] {
            // By another process: while this one writes a file, what it starts meanwhile keeps that busy.
            let mut copy = Command::new("install");
            copy.args(["-m", mode, program]);
            assert!(
                copy.arg(fixture.directory.path())
                    .status()
                    .unwrap()
                    .success()
            );
        }
        chown(fixture.directory.path(), Some(NOBODY), None).unwrap();
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(fixture.directory.path(), readable).unwrap();
        Some(fixture)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a script as nobody, of which a process of root stays behind.
    fn run(&self, ttl: &str, script: &str) -> (Output, i32) {
        let script = format!(
            "{}/setpriv --reuid=0 sh -c 'echo $$ >$1; exec sleep 60' sh $1 >&- 2>&- & \
             while [ ! -s $1 ]; do sleep 0.05; done; {script}",
            self.directory.path().display()
        );
        let args = [
            "run", "--ttl", ttl, "--grace", "100ms", "--shell", "a", "--", &script,
        ];
        let run = on(&self.servers, args);
        let mut command = Command::new(self.path("redlock"));
        command.args(run.get_args()).arg(self.path("file"));
        adopt_environment(&mut command, &run);
        let output = command.uid(NOBODY).output().unwrap();
        (output, numbers(&self.path("file"), 1)[0])
    }
}

#[track_caller]
fn kill(pid: i32) {
    assert!(runs(pid), "nobody could end it");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn the_lock_is_left_to_its_ttl_and_the_code_is_no_success() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let (output, pid) = fixture.run("9s", "exit 0");
    let keys: Vec<_> = fixture.servers.iter().map(RedisServer::keys).collect();
    let start = Instant::now();
    kill(pid);
    assert_code(&output, 71);
    let line = complained(&output);
    assert!(line.contains(&format!("does not end ({pid})")), "{line}");
    assert!(keys.iter().all(|keys| *keys == ["a"]), "{keys:?}");
    eventually("the ttl frees it", || {
        let free = fixture
            .servers
            .iter()
            .all(|server| server.keys().is_empty());
        free.then_some(())
    });
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "nobody extends it"
    );
}

#[test]
fn a_loss_is_told_by_its_code() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let port = fixture
        .servers
        .iter()
        .map(|it| it.address().port().to_string());
    let taken: Vec<_> = port
        .map(|port| format!("redis-cli -p {port} SET a another"))
        .collect();
    let (output, pid) = fixture.run("3s", &format!("{}; sleep 60", taken.join("; ")));
    kill(pid);
    assert_code(&output, 76);
    assert!(complained(&output).contains("does not end"), "{output:?}");
}
