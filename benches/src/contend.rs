//! Workload C: processes that contend for one resource, and how the lock passes between them.

use std::{
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use redlock_test::server::RedisServer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, sleep_until, timeout},
};

use crate::{
    contender::{Contender, Which, script},
    cpu::shared_now,
    rounds::Failures,
    servers,
    stats::quantile,
};

/// For how long each holder keeps the lock.
const HOLD: Duration = Duration::from_millis(5);
/// How long the last turns may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One time that a process had the lock, on the clock of all processes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "[u64; 4]", into = "[u64; 4]")]
struct Turn {
    asked: Duration,
    granted: Duration,
    freeing: Duration,
    freed: Duration,
}

/// All turns of a process, as it tells the one that started it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Turns {
    turns: Vec<Turn>,
    failures: Failures,
}

/// How the lock passed between the processes.
#[derive(Clone, Debug, Serialize)]
pub struct Contention {
    /// Who contended.
    pub contender: &'static str,
    /// How many processes wait while one holds it.
    pub waiting: usize,
    /// How often somebody got the lock, per second.
    pub grants_per_second: f64,
    /// The median and the 99th percentile from the call of a release to the grant of another process, in milliseconds.
    pub hand_off_ms: [f64; 2],
    /// The longest time from asking to a grant, in milliseconds.
    pub longest_wait_ms: f64,
    /// The longest wait, in times of what it would be if everybody had his turn in order.
    pub longest_wait_shares: f64,
    /// The median acquire, in milliseconds; when nobody waits what an acquire needs.
    pub acquire_ms: f64,
    /// The median from asking to having freed it, in milliseconds; when nobody waits the least that a turn takes.
    pub turn_ms: f64,
    /// Commands sent to each server, per grant, if they can be counted.
    pub commands_per_grant: Option<f64>,
    /// How often one got the lock before the one before him began to free it: never, or it is no lock.
    pub overlaps: usize,
    /// Locks that could not be had, or were lost.
    pub failures: Failures,
}

/// Has one process more than wait contend for this time.
///
/// # Panics
///
/// When they cannot be started, or do not end.
pub async fn contention(
    servers: &[RedisServer],
    which: Which,
    waiting: usize,
    time: Duration,
) -> Contention {
    let urls = servers::urls(servers);
    let mut running: Vec<_> = (0..=waiting)
        .map(|_| Process::start(which, &urls))
        .collect();
    for process in &mut running {
        assert_eq!(process.line().await, "ready", "{which}");
    }
    let before = servers::commands(servers);
    let from = shared_now() + Duration::from_millis(50);
    let until = from + time;
    for process in &mut running {
        let order = format!("{} {}\n", from.as_nanos(), until.as_nanos());
        process.order(&order).await;
    }
    let (mut turns, mut failures) = (Vec::new(), Vec::new());
    for (number, mut process) in running.into_iter().enumerate() {
        let told = timeout(time + PATIENCE, process.answer::<Turns>()).await;
        let its = told.expect("it ends");
        turns.extend(its.turns.into_iter().map(|turn| (number, turn)));
        failures.push(its.failures);
    }
    let commands = servers::commands(servers) - before;
    Contention {
        failures: Failures::sum(&failures),
        ..judged(
            which,
            turns,
            waiting,
            until,
            time,
            commands / servers.len() as u64,
        )
    }
}

impl Contention {
    /// The grants per second of this one beside the most that could be, by a turn alone.
    #[must_use]
    pub fn of_ideal(&self, alone: &Self) -> f64 {
        self.grants_per_second * alone.turn_ms / 1e3
    }

    /// The median hand-off and the 99th percentile, in acquires alone.
    #[must_use]
    pub fn hand_off_acquires(&self, alone: &Self) -> [f64; 2] {
        self.hand_off_ms.map(|millis| millis / alone.acquire_ms)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn judged(
    which: Which,
    mut turns: Vec<(usize, Turn)>,
    waiting: usize,
    until: Duration,
    time: Duration,
    commands: u64,
) -> Contention {
    let counted = which.is_counted();
    turns.sort_by_key(|(_, turn)| turn.granted);
    let in_time = turns.iter().filter(|(_, turn)| turn.granted < until);
    let grants_per_second = in_time.count() as f64 / time.as_secs_f64();
    let overlapping = |pair: &&[(usize, Turn)]| pair[1].1.granted < pair[0].1.freeing;
    let overlaps = turns.windows(2).filter(overlapping).count();
    let handed = turns.windows(2).filter(|pair| pair[0].0 != pair[1].0);
    let took = handed.map(|pair| pair[1].1.granted.saturating_sub(pair[0].1.freeing));
    let hand_offs = sorted_millis(took);
    let waits = sorted_millis(
        turns
            .iter()
            .map(|(_, turn)| turn.granted.saturating_sub(turn.asked)),
    );
    let lasted = sorted_millis(
        turns
            .iter()
            .map(|(_, turn)| turn.freed.saturating_sub(turn.asked)),
    );
    let longest_wait_ms = quantile(&waits, 1.0);
    Contention {
        contender: which.name(),
        waiting,
        grants_per_second,
        hand_off_ms: [0.5, 0.99].map(|part| quantile(&hand_offs, part)),
        longest_wait_ms,
        longest_wait_shares: longest_wait_ms / 1e3 * grants_per_second / (waiting + 1) as f64,
        acquire_ms: quantile(&waits, 0.5),
        turn_ms: quantile(&lasted, 0.5),
        commands_per_grant: counted.then(|| commands as f64 / turns.len() as f64),
        overlaps,
        failures: Failures::default(),
    }
}

fn sorted_millis(durations: impl Iterator<Item = Duration>) -> Vec<f64> {
    let mut millis: Vec<_> = durations.map(|it| it.as_secs_f64() * 1e3).collect();
    millis.sort_unstable_by(f64::total_cmp);
    millis
}

/// A process that is told what to do line by line, and ends with this value.
pub(crate) struct Process {
    _child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// One that contends.
    fn start(which: Which, urls: &[String]) -> Self {
        let hold = HOLD.as_millis().to_string();
        let mut command = if which == Which::Node {
            script()
        } else {
            Command::new(env::current_exe().expect("it runs"))
        };
        let command = command.args(["contend", which.name(), "shared", &hold]);
        Self::spawn(command.args(urls))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.kill_on_drop(true).spawn().expect("it can be started");
        Self {
            orders: child.stdin.take().expect("piped"),
            lines: BufReader::new(child.stdout.take().expect("piped")).lines(),
            _child: child,
        }
    }

    pub(crate) async fn order(&mut self, order: &str) {
        let told = self.orders.write_all(order.as_bytes()).await;
        told.expect("it listens");
    }

    /// What it answers, as JSON in one line.
    pub(crate) async fn answer<T: DeserializeOwned>(&mut self) -> T {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    async fn line(&mut self) -> String {
        let line = self.lines.next_line().await.expect("it tells");
        line.expect("it goes on")
    }
}

impl From<[u64; 4]> for Turn {
    fn from(nanos: [u64; 4]) -> Self {
        let [asked, granted, freeing, freed] = nanos.map(Duration::from_nanos);
        Self {
            asked,
            granted,
            freeing,
            freed,
        }
    }
}

impl From<Turn> for [u64; 4] {
    fn from(turn: Turn) -> Self {
        let times = [turn.asked, turn.granted, turn.freeing, turn.freed];
        times.map(|time| time.as_nanos().try_into().expect("below 500 years"))
    }
}

/// Takes and frees the resource over and over between these times.
pub(crate) async fn contend<C: Contender>(
    contender: &C,
    resource: &str,
    hold: Duration,
    [from, until]: [Duration; 2],
) -> Turns {
    let start = Instant::now() + from.saturating_sub(shared_now());
    sleep_until(start.into()).await;
    let mut all = Turns::default();
    while shared_now() < until {
        let asked = shared_now();
        let lock = match contender.acquire(resource).await {
            Ok(lock) => lock,
            Err(reason) => {
                all.failures.add(reason);
                continue;
            }
        };
        let granted = shared_now();
        sleep(hold).await;
        let freeing = shared_now();
        if let Err(reason) = contender.release(lock).await {
            all.failures.add(reason);
        }
        all.turns.push(Turn {
            asked,
            granted,
            freeing,
            freed: shared_now(),
        });
    }
    all
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "measurements as they were given")]
mod tests {
    use super::*;

    fn turn(millis: [u64; 4]) -> Turn {
        millis.map(|it| it * 1_000_000).into()
    }

    fn judge(turns: Vec<(usize, Turn)>) -> Contention {
        let second = Duration::from_secs(1);
        judged(Which::Ours, turns, 1, second, second, 40)
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
        assert_eq!(judged.commands_per_grant, Some(10.0));
        assert_eq!(judged.overlaps, 0);
    }

    #[test]
    fn two_at_once_are_counted() {
        let turns = vec![(0, turn([0, 1, 6, 7])), (1, turn([0, 5, 10, 11]))];
        assert_eq!(judge(turns).overlaps, 1);
    }
}
