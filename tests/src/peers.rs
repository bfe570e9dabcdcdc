//! Holders in other languages, and the log of who held what.

use std::{env, fs, path::Path};

use redlock_test::server::RedisServer;
use tokio::process::{Child, Command};

/// How often each of them takes the lock.
pub const CYCLES: usize = 40;

/// Two processes in each of two other languages that take and free the lock `shared`, and log when they
/// hold it: `enter` or `leave`, and who.
///
/// # Panics
///
/// When the libraries are not installed.
#[must_use]
pub fn start(log: &Path, servers: &[RedisServer]) -> Vec<Child> {
    let peers = env::var_os("REDLOCK_TEST_PEERS").expect("cargo sets it");
    assert!(
        Path::new(&peers).is_dir(),
        "`make setup` installs the peers"
    );
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let holders = [("node", "hold.mjs"), ("python3", "hold.py")];
    let start = |(interpreter, script): (&str, &str)| {
        Command::new(interpreter)
            .arg(scripts.join(script))
            .arg(log)
            .args([&CYCLES.to_string(), "shared"])
            .args(servers.iter().map(RedisServer::url))
            .kill_on_drop(true)
            .spawn()
            .expect("the interpreter is installed")
    };
    holders.into_iter().chain(holders).map(start).collect()
}

/// Of so many holders each has had its turns, and nobody's overlapped with another's.
///
/// # Panics
///
/// When two held the lock at once, or they did not contend.
pub fn assert_turns(log: &Path, holders: usize) {
    let log = fs::read_to_string(log).expect("somebody has held it");
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), holders * 2 * CYCLES);
    let mut turns = 0;
    let mut before = "";
    for pair in lines.chunks(2) {
        let (enter, leave) = (pair[0].split_once(' '), pair[1].split_once(' '));
        let (Some(("enter", who)), Some(("leave", left))) = (enter, leave) else {
            panic!("two held it: {pair:?}");
        };
        assert_eq!(who, left, "two held it");
        turns += usize::from(who != before);
        before = who;
    }
    assert!(turns > 10, "they had {turns} turns: they did not contend");
}
