//! Workload C: processes that contend for one resource, and how the lock passes between them.

use std::{
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use redlock_test::server::RedisServer;
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    contender::{Contender, Which, script},
    cpu::shared_now,
    servers,
    stats::quantile,
};

/// For how long each holder keeps the lock.
pub const HOLD: Duration = Duration::from_millis(5);

/// One time that a process had the lock, on the clock of all processes.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    asked: Duration,
    granted: Duration,
    freeing: Duration,
    freed: Duration,
}

/// How the lock passed between the processes.
#[derive(Clone, Debug, Serialize)]
pub struct Contention {
    /// Who contended.
    pub contender: &'static str,
    /// How many processes.
    pub processes: usize,
    /// How often somebody got the lock, per second.
    pub grants_per_second: f64,
    /// The median and the 99th percentile from the call of a release to the grant of another process, in milliseconds.
    pub hand_off_ms: [f64; 2],
    /// The longest time from asking to a grant, in milliseconds.
    pub longest_wait_ms: f64,
    /// The longest wait, in times of what it would be if everybody had his turn in order.
    pub longest_wait_shares: f64,
    /// The median acquire, in milliseconds; without contention what the driver needs.
    pub acquire_ms: f64,
    /// The median from asking to having freed it, in milliseconds; without contention the least that a turn takes.
    pub turn_ms: f64,
    /// Commands sent to all servers together, per grant.
    pub commands_per_grant: f64,
    /// How often one got the lock before the one before him began to free it: never, or it is no lock.
    pub overlaps: usize,
}

/// Has so many processes contend for this time.
///
/// # Panics
///
/// When they cannot be started.
pub async fn contention(
    servers: &[RedisServer],
    which: Which,
    processes: usize,
    time: Duration,
) -> Contention {
    let urls = servers::urls(servers);
    let mut running = Vec::new();
    for _ in 0..processes {
        running.push(Process::start(which, &urls));
    }
    for process in &mut running {
        let ready = process.lines.next_line().await.expect("it tells");
        assert_eq!(ready.as_deref(), Some("ready"), "{which}");
    }
    let before = servers::commands(servers);
    let from = shared_now() + Duration::from_millis(50);
    let until = from + time;
    for process in &mut running {
        process.contend(from, until).await;
    }
    let mut turns = Vec::new();
    for (number, process) in running.into_iter().enumerate() {
        let its = process.turns().await;
        turns.extend(its.into_iter().map(|turn| (number, turn)));
    }
    let commands = servers::commands(servers) - before;
    judged(which, processes, turns, until, time, commands)
}

impl Contention {
    /// The grants per second of this one beside the most that could be, by a turn alone.
    #[must_use]
    pub fn of_ideal(&self, alone: &Self) -> f64 {
        self.grants_per_second * alone.turn_ms / 1e3
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn judged(
    which: Which,
    processes: usize,
    mut turns: Vec<(usize, Turn)>,
    until: Duration,
    time: Duration,
    commands: u64,
) -> Contention {
    turns.sort_by_key(|(_, turn)| turn.granted);
    let in_time = turns.iter().filter(|(_, turn)| turn.granted < until);
    let grants_per_second = in_time.count() as f64 / time.as_secs_f64();
    let pairs = turns.windows(2);
    let overlaps = pairs
        .clone()
        .filter(|pair| pair[1].1.granted < pair[0].1.freeing);
    let overlaps = overlaps.count();
    let handed = pairs.filter(|pair| pair[0].0 != pair[1].0);
    let took = handed.map(|pair| pair[1].1.granted.saturating_sub(pair[0].1.freeing));
    let hand_offs = sorted_millis(took);
    let waits = sorted_millis(turns.iter().map(|(_, turn)| turn.granted - turn.asked));
    let lasted = sorted_millis(turns.iter().map(|(_, turn)| turn.freed - turn.asked));
    let longest_wait_ms = quantile(&waits, 1.0);
    Contention {
        contender: which.name(),
        processes,
        grants_per_second,
        hand_off_ms: [0.5, 0.99].map(|part| quantile(&hand_offs, part)),
        longest_wait_ms,
        longest_wait_shares: longest_wait_ms / 1e3 * grants_per_second / processes as f64,
        acquire_ms: quantile(&waits, 0.5),
        turn_ms: quantile(&lasted, 0.5),
        commands_per_grant: commands as f64 / turns.len().max(1) as f64,
        overlaps,
    }
}

fn sorted_millis(durations: impl Iterator<Item = Duration>) -> Vec<f64> {
    let mut millis: Vec<_> = durations.map(|it| it.as_secs_f64() * 1e3).collect();
    millis.sort_unstable_by(f64::total_cmp);
    millis
}

/// One of the processes that contend, as the one sees it that started it.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(which: Which, urls: &[String]) -> Self {
        let mut command = if which == Which::Node {
            let mut command = Command::new("node");
            command.arg(script());
            command
        } else {
            Command::new(env::current_exe().expect("it runs"))
        };
        command.arg("contend");
        if which != Which::Node {
            command.arg(which.name());
        }
        let mut child = command
            .arg("shared")
            .arg(HOLD.as_millis().to_string())
            .args(urls)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it can be started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    async fn contend(&mut self, from: Duration, until: Duration) {
        let order = format!("{} {}\n", from.as_nanos(), until.as_nanos());
        let orders = self.child.stdin.as_mut().expect("piped");
        let told = orders.write_all(order.as_bytes()).await;
        told.expect("it listens");
    }

    async fn turns(mut self) -> Vec<Turn> {
        let mut turns = Vec::new();
        while let Some(line) = self.lines.next_line().await.expect("it tells") {
            turns.push(Turn::parse(&line).expect("four times"));
        }
        turns
    }
}

impl Turn {
    fn parse(line: &str) -> Option<Self> {
        let mut times = line.split(' ').map(|nanos| nanos.parse().ok());
        let mut next = || times.next().flatten().map(Duration::from_nanos);
        Some(Self {
            asked: next()?,
            granted: next()?,
            freeing: next()?,
            freed: next()?,
        })
    }

    /// As the process tells that started this one.
    #[must_use]
    pub fn line(&self) -> String {
        let times = [self.asked, self.granted, self.freeing, self.freed];
        times.map(|time| time.as_nanos().to_string()).join(" ")
    }
}

/// Takes and frees the resource over and over between these times.
pub(crate) async fn contend<C: Contender>(
    contender: &C,
    resource: &str,
    hold: Duration,
    [from, until]: [Duration; 2],
) -> Vec<Turn> {
    let start = Instant::now() + from.saturating_sub(shared_now());
    tokio::time::sleep_until(start.into()).await;
    let mut turns = Vec::new();
    while shared_now() < until {
        let asked = shared_now();
        let Some(held) = contender.acquire(resource).await else {
            continue;
        };
        let granted = shared_now();
        tokio::time::sleep(hold).await;
        let freeing = shared_now();
        contender.release(held).await;
        turns.push(Turn {
            asked,
            granted,
            freeing,
            freed: shared_now(),
        });
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(times: [u64; 4]) -> Turn {
        let [asked, granted, freeing, freed] = times.map(Duration::from_millis);
        Turn {
            asked,
            granted,
            freeing,
            freed,
        }
    }

    fn judge(turns: Vec<(usize, Turn)>) -> Contention {
        let second = Duration::from_secs(1);
        judged(Which::Ours, 2, turns, second, second, 40)
    }

    #[test]
    fn a_hand_off_is_between_processes_and_a_holder_that_takes_it_again_hands_nothing_over() {
        let judged = judge(vec![
            (0, turn([0, 1, 6, 7])),
            (0, turn([7, 8, 13, 14])),
            (1, turn([0, 17, 22, 23])),
            (0, turn([14, 1_100, 1_105, 1_106])),
        ]);
        assert_eq!(
            judged.hand_off_ms,
            [1_078.0, 1_078.0],
            "4 ms and 1,078 ms, the upper one"
        );
        assert_eq!(judged.grants_per_second, 3.0, "one came after the end");
        assert_eq!(judged.longest_wait_ms, 1_086.0);
        assert_eq!(judged.commands_per_grant, 10.0);
        assert_eq!(judged.overlaps, 0);
    }

    #[test]
    fn two_at_once_are_counted() {
        let turns = vec![(0, turn([0, 1, 6, 7])), (1, turn([0, 5, 10, 11]))];
        assert_eq!(judge(turns).overlaps, 1);
    }

    #[test]
    fn a_turn_is_told_as_it_was() {
        let turn = turn([1, 2, 3, 4]);
        assert_eq!(
            Turn::parse(&turn.line()).map(|it| it.line()),
            Some(turn.line())
        );
    }
}
