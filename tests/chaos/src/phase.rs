//! One run under faults.

use std::{error::Error, path::PathBuf, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use redlock::Instant;
use redlock_test::History;
use tokio::{process::Command, time::sleep};

use crate::{
    crowd::Crowd, faults, fleet::Fleet, log::Log, order::disorders, outcome::Outcome,
    protocol::Options,
};

const CLIENTS: usize = 6;
/// How long the first lock of all may take, on a machine that has other work.
const FIRST: Duration = Duration::from_secs(30);

/// What is put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Servers forget everything when they restart, and the clients have a restart guard.
    Guard,
    /// Servers forget, and nothing is done about it.
    NoGuard,
    /// Servers forget nothing, and the clients, whose clocks are wrong, take fencing tokens.
    Fencing,
}

/// How a phase is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is put to the test.
    pub phase: Phase,
    /// For how long, from the first grant on.
    pub time: Duration,
    /// What the faults and the choices of the clients depend on.
    pub seed: u64,
    /// The ttl of the locks.
    pub ttl: Duration,
    /// The client program and its first arguments.
    pub client: (PathBuf, Vec<String>),
}

impl Settings {
    /// Runs the phase.
    ///
    /// # Errors
    ///
    /// When a client does not do as it should.
    ///
    /// # Panics
    ///
    /// When a server does not start, and on a runtime with one thread only.
    pub async fn run(&self) -> Result<Outcome, Box<dyn Error>> {
        let mut fleet = Fleet::start(self.phase == Phase::Fencing).await?;
        let (log, history) = (Log::new(), History::new());
        let crowd = Crowd::start(self.commands(&fleet.urls()))?;
        let start = Instant::now();
        while crowd.record().claims().next().is_none() && start.elapsed() < FIRST {
            sleep(Duration::from_millis(10)).await;
        }
        let end = Instant::now() + self.time;
        let [mut of_servers, mut of_clients] =
            [1, 2].map(|it| StdRng::seed_from_u64(self.seed.wrapping_add(it)));
        tokio::join!(
            faults::of_servers(&mut fleet, &crowd, &log, &mut of_servers, self.ttl, end),
            faults::of_clients(&crowd, CLIENTS, &log, &mut of_clients, self.ttl, end),
        );
        let record = crowd.end().await?;
        for claim in record.claims() {
            history.add(claim.hold.clone());
        }
        Ok(Outcome {
            phase: self.phase,
            time: self.time,
            violations: history.violations(),
            disorders: disorders(record.claims()),
            record,
            log,
        })
    }

    fn commands(&self, urls: &[String]) -> Vec<Command> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let command = |number| {
            let options = Options {
                number,
                seed: rng.random(),
                ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
                guard: self.phase == Phase::Guard,
                fencing: self.phase == Phase::Fencing,
                urls: urls.to_vec(),
            };
            let (program, first) = &self.client;
            let mut command = Command::new(program);
            command.args(first).args(options.args());
            command
        };
        (0..CLIENTS as u64).map(command).collect()
    }
}
