//! The examples do what they say.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use examples::sqlite::SqliteNode;
use redlock::Redlock;
use redlock_test::server::RedisServer;

fn example(name: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    Command::new(path.join("examples").join(name))
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

fn urls(servers: &[RedisServer]) -> Vec<String> {
    servers.iter().map(RedisServer::url).collect()
}

#[test]
fn quickstart_in_memory_and_on_servers() {
    let servers = RedisServer::start_many(3);
    for args in [Vec::new(), urls(&servers)] {
        let output = example("quickstart").args(args).output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        for expected in [
            "acquired orders:42",
            "locked by another",
            "extended",
            "released",
        ] {
            assert!(text.contains(expected), "{expected} is not in: {text}");
        }
    }
}

#[test]
fn quickstart_without_a_quorum_names_every_node_and_why_and_fails() {
    let mut servers = RedisServer::start_many(3);
    servers[0].kill();
    servers[2].pause();
    let output = example("quickstart").args(urls(&servers)).output().unwrap();
    let text = text(&output);
    assert!(!output.status.success(), "{text}");
    for (node, cause) in [(0, "refused"), (2, "timed out")] {
        let address = servers[node].address().to_string();
        let named = text
            .lines()
            .any(|line| line.contains(&address) && line.contains(cause));
        assert!(named, "{address} and {cause} are not in: {text}");
    }
}

#[test]
fn a_lock_is_handed_over_between_two_processes() {
    let servers = RedisServer::start_many(3);
    let output = example("handover").args(urls(&servers)).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let said = [
        "first: gave it away",
        "second: holds report",
        "second: released it",
        "first: it is free again",
    ];
    for expected in said {
        assert!(text.contains(expected), "{expected} is not in: {text}");
    }
}

#[test]
fn databases_on_this_machine_exclude_other_processes() {
    let directory = tempfile::tempdir().unwrap();
    let run = || example("sqlite").arg(directory.path()).output().unwrap();
    let output = run();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for expected in [
        "alice acquired orders:42",
        "bob tries: locked by another",
        "alice extended it",
        "alice released it",
        "bob acquired orders:42",
    ] {
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = |number| SqliteNode::open(directory.path().join(format!("node-{number}.db")));
    let nodes: Vec<_> = (1..=3).map(|number| node(number).unwrap()).collect();
    let redlock = Redlock::new(nodes).unwrap();
    let acquire = redlock.acquire("orders:42", Duration::from_secs(100));
    let _lock = runtime.block_on(acquire).unwrap();
    let output = run();
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("alice: locked by another"), "{said}");
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_can_fetch_the_metrics() {
    let child = example("prometheus")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let mut url = String::new();
    BufReader::new(child.0.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    let address = url
        .trim()
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/metrics")
        .unwrap();

    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
        let expected = [
            "redlock_acquisitions_total{outcome=\"acquired\"}",
            "redlock_renewals_total{outcome=\"renewed\"}",
            "redlock_hold_seconds",
            "redlock_kept_locks",
            "redlock_node_seconds",
        ];
        if expected.iter().all(|name| answer.contains(name)) {
            break;
        }
        assert!(Instant::now() < deadline, "{answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn paused_holder_is_refused_and_the_next_ones_write_stays() {
    let servers = RedisServer::start_many(3);
    let output = example("paused_holder")
        .args(urls(&servers))
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("holder: claimed with token"), "{text}");
    assert!(lines[1].ends_with("its write was accepted"), "{text}");
    assert_eq!(
        lines[2..],
        ["holder: its write was refused", "balance: 1"],
        "{text}"
    );
}
