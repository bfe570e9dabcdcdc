//! Workload E: what it costs to keep 10,000 locks alive.

#![expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use redlock::{KeptLock, RedisNode, Redlock, telemetry::Event};
use redlock_test::server::RedisServer;
use serde::Serialize;
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use crate::{
    cpu::cpu_time,
    servers::{commands, urls},
};

const LOCKS: usize = 10_000;
const TTL: Duration = Duration::from_secs(30);
/// Every lock is extended twice in this time.
const MEASURED: Duration = Duration::from_secs(20);

/// What it cost.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// So many locks.
    pub locks: usize,
    /// On so many servers.
    pub nodes: usize,
    /// Of the process, in percent of a core.
    pub cpu_percent: f64,
    /// Resident memory.
    pub bytes_per_lock: usize,
    /// Tasks of the runtime.
    pub tasks_per_lock: f64,
    /// Extensions.
    pub renewals_per_second: f64,
    /// To all servers together.
    pub commands_per_second: f64,
    /// By how much an extension was later than a third of the ttl after the last, at most.
    pub largest_delay_ms: f64,
    /// How many locks did not last.
    pub lost: usize,
}

/// Keeps them on these servers, in a process that has done nothing else yet.
///
/// # Panics
///
/// When a lock cannot be had.
pub async fn kept(servers: &[RedisServer]) -> Kept {
    let node = |url: String| RedisNode::new(url).expect("a URL");
    let nodes = urls(servers).into_iter().map(node);
    let redlock = Redlock::new(nodes).expect("distinct servers");
    drop(redlock.acquire("warm", TTL).await.expect("a quorum"));

    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (memory, tasks_before) = (resident_bytes(), tasks());
    let mut kept: Vec<KeptLock> = Vec::with_capacity(LOCKS);
    for number in 0..LOCKS {
        let lock = redlock.acquire(format!("kept:{number}"), TTL).await;
        kept.push(lock.expect("free").keep_alive());
    }
    let memory = resident_bytes().saturating_sub(memory);
    let tasks = tasks().saturating_sub(tasks_before);

    // Until every lock has been extended once, the acquisitions set the pace.
    sleep(TTL / 3).await;
    let (cpu, sent, start) = (cpu_time(), commands(servers), Instant::now());
    let (renewals, delay) = renewals(&redlock).await;
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = cpu_time().saturating_sub(cpu);
    let sent = commands(servers) - sent;
    let lost = kept.iter().filter(|lock| lock.is_lost()).count();
    let releases = stream::iter(kept).map(KeptLock::release);
    releases.buffer_unordered(100).for_each(async |_| ()).await;
    Kept {
        locks: LOCKS,
        nodes: servers.len(),
        cpu_percent: 100.0 * cpu.as_secs_f64() / elapsed,
        bytes_per_lock: memory / LOCKS,
        tasks_per_lock: tasks as f64 / LOCKS as f64,
        renewals_per_second: renewals as f64 / elapsed,
        commands_per_second: sent as f64 / elapsed,
        largest_delay_ms: delay.as_secs_f64() * 1e3,
        lost,
    }
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
    let _ = timeout(MEASURED, listened).await;
    (count, delay)
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}
