//! Workload D: what one node of five costs the others that is hung, killed, or slow.

use std::time::Duration;

use redlock_test::{proxy::Proxy, server::RedisServer};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    contender::Which,
    rounds::{Failures, Load, Runner},
    servers::urls,
    stats::{Summary, quantile},
};

/// How late a slow node answers.
const SLOW: Duration = Duration::from_millis(50);
/// Within this time a node votes again that is well again.
const RECOVERY: Duration = Duration::from_millis(300);

/// What a fault cost.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// Who was measured.
    pub contender: &'static str,
    /// What one node was.
    pub fault: &'static str,
    /// The median acquire when all were healthy, in milliseconds.
    pub healthy_ms: Summary,
    /// The median acquire with the fault.
    pub faulty_ms: Summary,
    /// The one by the other in each round.
    pub ratios: Vec<f64>,
    /// Locks that could not be had, or were lost, while there was the fault.
    pub failures: Failures,
}

/// Measures every fault in every round; another node is hung or killed each time.
///
/// # Panics
///
/// When there is no free port.
pub async fn faults(
    servers: &mut [RedisServer],
    which: Which,
    time: Duration,
    rounds: usize,
) -> Vec<Fault> {
    let usual = urls(servers);
    let mut with_slow = usual.clone();
    let slow = Proxy::start_distant(servers[0].address(), SLOW / 2).await;
    let slow = slow.expect("a free port");
    with_slow[0] = slow.url();
    let runner = which.connect(&usual).await;
    let slowed = which.connect(&with_slow).await;
    let names = ["hung", "killed", "slow"];
    let (mut measured, mut failures) = (names.map(|_| Vec::new()), names.map(|_| Vec::new()));
    for round in 0..rounds {
        for (number, name) in names.into_iter().enumerate() {
            let server = &mut servers[round % usual.len()];
            let (healthy, _) = median(runner.as_ref(), time).await;
            let (faulty, failed) = match name {
                "hung" => {
                    server.pause();
                    let faulty = median(runner.as_ref(), time).await;
                    server.resume();
                    faulty
                }
                "killed" => {
                    server.kill();
                    let faulty = median(runner.as_ref(), time).await;
                    server.restart();
                    faulty
                }
                _ => median(slowed.as_ref(), time).await,
            };
            sleep(RECOVERY).await;
            measured[number].push((healthy, faulty));
            failures[number].push(failed);
        }
    }
    let judged = names.into_iter().zip(measured).zip(failures);
    judged
        .map(|((fault, measured), failures)| Fault {
            contender: which.name(),
            fault,
            healthy_ms: Summary::of(measured.iter().map(|(healthy, _)| *healthy)),
            faulty_ms: Summary::of(measured.iter().map(|(_, faulty)| *faulty)),
            ratios: measured
                .iter()
                .map(|(healthy, faulty)| faulty / healthy)
                .collect(),
            failures: Failures::sum(&failures),
        })
        .collect()
}

/// The median acquire in milliseconds, and what failed.
async fn median(runner: &dyn Runner, time: Duration) -> (f64, Failures) {
    let round = runner.run(Load::new(1, time)).await;
    let millis = round.acquires.iter().map(|it| it.as_secs_f64() * 1e3);
    let mut sorted: Vec<_> = millis.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    (quantile(&sorted, 0.5), round.failures)
}
