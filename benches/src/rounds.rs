//! Rounds: every contender takes its turn in each of them, the next time another one first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};

use crate::{
    contend::{Turns, contend},
    contender::{Contender, Which},
    cpu::cpu_time,
};

/// What is done in a round: so many tasks, each with a resource of its own, take and free it over and over.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many at once; one alone is the sequential workload.
    pub tasks: usize,
    /// For how long.
    pub time: Duration,
    /// How often each of them at least.
    pub cycles: usize,
}

impl Load {
    /// So many at once for so long, and each at least once.
    #[must_use]
    pub const fn new(tasks: usize, time: Duration) -> Self {
        let cycles = 1;
        Self {
            tasks,
            time,
            cycles,
        }
    }
}

/// What one contender did in one round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// How long each acquire took whose lock was freed again, and held until then.
    pub acquires: Vec<Duration>,
    /// The others.
    pub failures: Failures,
    /// How long it took.
    pub elapsed: Duration,
    /// What the client's process computed meanwhile.
    pub cpu: Duration,
}

impl Round {
    /// How many locks were taken and freed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub fn cycles(&self) -> f64 {
        self.acquires.len() as f64
    }

    /// Cycles per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.cycles() / self.elapsed.as_secs_f64()
    }

    /// Microseconds of the client's processor per cycle.
    #[must_use]
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.cycles()
    }
}

/// Locks that could not be had, or were not held any more when they were freed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Failures {
    /// How many.
    pub count: usize,
    /// Why the first was one.
    pub first: Option<String>,
}

impl Failures {
    pub(crate) fn add(&mut self, reason: String) {
        self.count += 1;
        self.first.get_or_insert(reason);
    }

    /// Of several.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for failures in all {
            sum.count += failures.count;
            sum.first = sum.first.or_else(|| failures.first.clone());
        }
        sum
    }

    /// Shows them to whoever runs the benches.
    pub fn tell(&self, of: &str) {
        if let Some(first) = &self.first {
            eprintln!("{of}: {} failed, the first: {first}", self.count);
        }
    }
}

/// A contender that is connected.
pub trait Runner: Send + Sync {
    /// Who it is.
    fn which(&self) -> Which;

    /// Does one round.
    fn run(&self, load: Load) -> BoxFuture<'_, Round>;

    /// Contends for one resource with other processes between these times, and holds it for so long each time.
    fn contend<'a>(
        &'a self,
        resource: &'a str,
        hold: Duration,
        times: [Duration; 2],
    ) -> BoxFuture<'a, Turns>;
}

/// A contender in this process.
pub(crate) struct Measured<C> {
    which: Which,
    contender: Arc<C>,
}

impl<C> Measured<C> {
    pub(crate) fn new(which: Which, contender: C) -> Self {
        let contender = Arc::new(contender);
        Self { which, contender }
    }
}

impl<C: Contender> Runner for Measured<C> {
    fn which(&self) -> Which {
        self.which
    }

    fn run(&self, load: Load) -> BoxFuture<'_, Round> {
        async move {
            let (start, cpu) = (Instant::now(), cpu_time());
            let start_one = |task| {
                let resource = format!("bench:{task}");
                tokio::spawn(cycles(Arc::clone(&self.contender), resource, start, load))
            };
            let running: Vec<_> = (0..load.tasks).map(start_one).collect();
            let mut round = Round::default();
            for task in running {
                let (acquires, failures) = task.await.expect("it does not panic");
                round.acquires.extend(acquires);
                round.failures = Failures::sum([&round.failures, &failures]);
            }
            round.elapsed = start.elapsed();
            round.cpu = cpu_time().saturating_sub(cpu);
            round
        }
        .boxed()
    }

    fn contend<'a>(
        &'a self,
        resource: &'a str,
        hold: Duration,
        times: [Duration; 2],
    ) -> BoxFuture<'a, Turns> {
        contend(&*self.contender, resource, hold, times).boxed()
    }
}

/// Cycles for as long as there is load: how long their acquires took, and what failed.
async fn cycles<C: Contender>(
    contender: Arc<C>,
    resource: String,
    start: Instant,
    load: Load,
) -> (Vec<Duration>, Failures) {
    let end = start + load.time;
    let (mut acquires, mut failures) = (Vec::new(), Failures::default());
    loop {
        let start = Instant::now();
        if start >= end && acquires.len() + failures.count >= load.cycles {
            return (acquires, failures);
        }
        match contender.acquire(&resource).await {
            Ok(held) => {
                let took = start.elapsed();
                match contender.release(held).await {
                    Ok(()) => acquires.push(took),
                    Err(reason) => failures.add(reason),
                }
            }
            Err(reason) => failures.add(reason),
        }
    }
}

/// What each contender did in each round, in the order of the contenders.
pub async fn interleave(runners: &[&dyn Runner], load: Load, rounds: usize) -> Vec<Vec<Round>> {
    let mut done: Vec<Vec<Round>> = runners.iter().map(|_| Vec::new()).collect();
    // Warms connections, scripts and caches.
    for runner in runners {
        let time = load.time / 4;
        runner.run(Load { time, ..load }).await;
    }
    for first in 0..rounds {
        for turn in 0..runners.len() {
            let turn = (first + turn) % runners.len();
            done[turn].push(runners[turn].run(load).await);
        }
    }
    done
}
