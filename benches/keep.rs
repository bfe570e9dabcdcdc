//! What it costs to keep 10,000 locks alive on three nodes: process CPU, memory per lock, commands per second, and the
//! largest delay of an extension.

#![expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use redlock::{KeptLock, RedisNode, Redlock, telemetry::Event};
use redlock_test::server::RedisServer;
use tokio::time::sleep;

const LOCKS: usize = 10_000;
const TTL: Duration = Duration::from_secs(30);
const MEASURED: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let servers = RedisServer::start_many(3);
    let node = |server: &RedisServer| RedisNode::new(server.url()).expect("a URL");
    let redlock = Redlock::new(servers.iter().map(node)).expect("three servers");
    drop(redlock.acquire("warm", TTL).await.expect("a quorum"));

    let memory = resident_bytes();
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let mut kept: Vec<KeptLock> = Vec::with_capacity(LOCKS);
    for number in 0..LOCKS {
        let lock = redlock
            .acquire(format!("bench:{number}"), TTL)
            .await
            .expect("free");
        kept.push(lock.keep_alive());
    }
    let memory = resident_bytes().saturating_sub(memory);
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
        - tasks;

    // Until every lock has been extended once, the acquisitions set the pace.
    sleep(TTL / 3).await;
    let (cpu, commands, start) = (cpu_seconds(), commands(&servers), Instant::now());
    let (renewals, delay) = renewals(&redlock).await;
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    let commands = self::commands(&servers) - commands;
    let lost = kept.iter().filter(|lock| lock.is_lost()).count();

    println!(
        "{LOCKS} locks kept alive on {} nodes, ttl {TTL:?}:",
        servers.len()
    );
    println!(
        "  process CPU            {:>8.1} % of a core",
        100.0 * cpu / elapsed
    );
    println!("  memory per lock        {:>8} bytes", memory / LOCKS);
    println!("  tasks per lock         {:>8.2}", ratio(tasks, LOCKS));
    println!(
        "  renewals per second    {:>8.0}",
        renewals as f64 / elapsed
    );
    println!(
        "  commands per second    {:>8.0}",
        commands as f64 / elapsed
    );
    println!("  largest delay          {delay:>8.1?}");
    println!("  lost                   {lost:>8}");
}

/// Counts renewals, and finds the largest time by which one was later than a third of the ttl after the last.
async fn renewals(redlock: &Redlock) -> (usize, Duration) {
    let mut last: HashMap<String, Instant> = HashMap::with_capacity(LOCKS);
    let (mut count, mut delay) = (0, Duration::ZERO);
    let mut events = redlock.events();
    let listened = async {
        while let Some(event) = events.next().await {
            if let Event::Renewed { resources, .. } = event {
                count += 1;
                let now = Instant::now();
                if let Some(before) = last.insert(resources[0].clone(), now) {
                    delay = delay.max((now - before).saturating_sub(TTL / 3));
                }
            }
        }
    };
    let _ = tokio::time::timeout(MEASURED, listened).await;
    (count, delay)
}

fn commands(servers: &[RedisServer]) -> u64 {
    let of = |server: &RedisServer| -> u64 {
        let stats = server.cli(&["INFO", "stats"]);
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.and_then(|count| count.trim().parse().ok())
            .expect("a count")
    };
    servers.iter().map(of).sum()
}

/// User and system time of this process, by Linux's clock ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn ratio(a: usize, b: usize) -> f64 {
    a as f64 / b as f64
}
