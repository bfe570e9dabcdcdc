//! Runs the phases one after the other; fails unless there are overlaps exactly where they are expected.

use std::{env, error::Error, fmt::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use redlock_chaos::{Outcome, Phase, Settings, client, protocol::Options, table};

/// Clients contend for locks on five real servers that crash, hang and lose what they were told.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// For how long, all phases together
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// What the faults depend on; a random one unless given
    #[arg(long)]
    seed: Option<u64>,
    /// The ttl of the locks
    #[arg(long, default_value_t = 2000)]
    ttl_ms: u64,
    /// Only the phase where servers forget, with the restart guard or without
    #[arg(long)]
    guard: Option<Switch>,
    /// Only the phase with fencing tokens, where servers do not forget
    #[arg(long)]
    fencing: bool,
    /// Another client program, whose overlaps are counted in the phase without guard and are no failure
    #[arg(long, conflicts_with_all = ["guard", "fencing"])]
    client: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// One of the contending clients
    #[command(hide = true)]
    Client(Options),
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().worker_threads(2).build()?;
    match &args.role {
        Some(Role::Client(options)) => {
            runtime.block_on(client::contend(options))?;
            Ok(ExitCode::SUCCESS)
        }
        None => runtime.block_on(args.run()),
    }
}

impl Args {
    fn phases(&self) -> Vec<Phase> {
        if self.client.is_some() {
            return vec![Phase::NoGuard];
        }
        let guard = self.guard.map(|switch| match switch {
            Switch::On => Phase::Guard,
            Switch::Off => Phase::NoGuard,
        });
        let asked: Vec<_> = guard
            .into_iter()
            .chain(self.fencing.then_some(Phase::Fencing))
            .collect();
        if asked.is_empty() {
            vec![Phase::Guard, Phase::NoGuard, Phase::Fencing]
        } else {
            asked
        }
    }

    async fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let seed = self
            .seed
            .unwrap_or_else(|| u64::from(rand::random::<u32>()));
        println!("seed {seed}");
        let client = match &self.client {
            Some(program) => (program.clone(), Vec::new()),
            None => (env::current_exe()?, vec!["client".to_owned()]),
        };
        let phases = self.phases();
        let time = Duration::from_secs_f64(self.minutes * 60.0) / u32::try_from(phases.len())?;
        let (mut outcomes, mut code) = (Vec::new(), ExitCode::SUCCESS);
        for phase in phases {
            let ttl = Duration::from_millis(self.ttl_ms);
            let client = client.clone();
            let outcome = Settings {
                phase,
                time,
                seed,
                ttl,
                client,
            }
            .run()
            .await?;
            if self.client.is_some() {
                println!("\n{}", outcome.evidence());
            } else if let Some(unexpected) = outcome.unexpected() {
                println!("\n{}: {unexpected}\n{}", phase.name(), outcome.evidence());
                code = ExitCode::FAILURE;
            }
            outcomes.push((phase, outcome));
        }
        self.conclude(outcomes);
        Ok(code)
    }

    fn conclude(&self, outcomes: Vec<(Phase, Outcome)>) {
        let (phases, outcomes): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
        println!("\n{}", table(&outcomes));
        let grants: usize = outcomes.iter().map(Outcome::grants).sum();
        let mut line = format!("{} minutes, {grants} grants", self.minutes);
        for (phase, outcome) in phases.into_iter().zip(&outcomes) {
            let (overlaps, tokens) = (outcome.violations.len(), outcome.tokens());
            let name = phase.name();
            let written = match phase {
                Phase::Fencing => {
                    let disorders = outcome.disorders.len();
                    write!(line, ", {name}: {tokens} tokens, {disorders} out of order")
                }
                _ => write!(line, ", {name}: {overlaps} overlaps"),
            };
            written.expect("a string takes everything");
        }
        println!("{line}");
    }
}
