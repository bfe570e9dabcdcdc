//! From the start of `redlock run` to that of its command, on five nodes, beside the command alone in the same run.

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use redlock_test::server::RedisServer;

const ROUNDS: usize = 100;

fn main() {
    let servers = RedisServer::start_many(5);
    let urls: Vec<_> = servers.iter().map(RedisServer::url).collect();
    let (mut alone, mut locked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(first_word(&mut Command::new("echo")));
        let mut redlock = Command::new(env!("CARGO_BIN_EXE_redlock"));
        redlock.env("REDLOCK_NODES", urls.join(" "));
        locked.push(first_word(redlock.args(["run", "bench", "--", "echo"])));
    }
    let (alone, locked) = (median(alone), median(locked));
    println!("start of the command, median of {ROUNDS}:");
    println!("  alone              {alone:>10.1?}");
    println!("  under redlock run  {locked:>10.1?}");
    let ratio = locked.as_secs_f64() / alone.as_secs_f64();
    println!("redlock run/alone {ratio:.2}");
}

/// How long it takes until the command says something.
fn first_word(command: &mut Command) -> Duration {
    let start = Instant::now();
    let mut child = command
        .arg("started")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut byte = [0];
    let output = child.stdout.as_mut().expect("piped");
    output.read_exact(&mut byte).expect("it says something");
    let took = start.elapsed();
    assert!(child.wait().expect("it ends").success());
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
