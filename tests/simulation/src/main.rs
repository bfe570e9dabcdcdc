//! Runs histories and tells which seeds break an invariant.

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use redlock_simulation::{Shares, simulate, tell};

/// Simulates histories of the real core and checks them.
#[derive(Parser)]
struct Arguments {
    /// How many histories.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Stop at the first history that breaks an invariant.
    #[arg(long)]
    until_violation: bool,
    /// Tell one history in full.
    #[arg(long, conflicts_with_all = ["seeds", "from", "until_violation"])]
    seed: Option<u64>,
    /// How many histories run at a time.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

/// What the histories came to.
#[derive(Default)]
struct Sum {
    shares: Shares,
    /// Histories in which nodes forgot and no guard stood by, and those of them with an overlap.
    forgetful: (u64, u64),
    histories: u64,
    violations: u64,
    failed: Vec<(u64, String)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => replay(seed),
        None => search(&arguments),
    }
}

fn replay(seed: u64) -> ExitCode {
    let report = tell(seed);
    print!("{}", report.history());
    for violation in report.expected() {
        println!("expected, nodes forget and no guard stands by: {violation}");
    }
    for violation in report.violations() {
        println!("{violation}");
    }
    println!("1 histories, {} violations", report.violations().len());
    ExitCode::from(u8::from(!report.violations().is_empty()))
}

fn search(arguments: &Arguments) -> ExitCode {
    let sum = Mutex::new(Sum::default());
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                let mut own = Sum::default();
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        break;
                    }
                    own.add(arguments.from + number);
                    if arguments.until_violation && own.violations > 0 {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                sum.lock().expect("no thread panics").merge(own);
            });
        }
    });
    let sum = sum.into_inner().expect("no thread panics");
    sum.print(arguments.until_violation)
}

impl Sum {
    fn add(&mut self, seed: u64) {
        let report = simulate(seed);
        self.histories += 1;
        report.count(&mut self.shares);
        if report.is_unsafe() {
            self.forgetful.0 += 1;
            self.forgetful.1 += u64::from(!report.expected().is_empty());
        }
        if let Some(first) = report.violations().first() {
            self.violations += report.violations().len() as u64;
            self.failed.push((seed, first.clone()));
        }
    }

    fn merge(&mut self, other: Self) {
        self.shares.add(&other.shares);
        self.forgetful.0 += other.forgetful.0;
        self.forgetful.1 += other.forgetful.1;
        self.histories += other.histories;
        self.violations += other.violations;
        self.failed.extend(other.failed);
    }

    fn print(mut self, partial: bool) -> ExitCode {
        const SHOWN: usize = 20;
        self.failed.sort_unstable();
        for (seed, first) in self.failed.iter().take(SHOWN) {
            println!("seed {seed}: {first}");
        }
        if self.failed.len() > SHOWN {
            println!("and {} more seeds", self.failed.len() - SHOWN);
        }
        let (forgetful, seen) = self.forgetful;
        println!(
            "without a guard {forgetful} histories with forgetful nodes, {seen} of them broken as expected"
        );
        let rare: Vec<_> = self.shares.rare().collect();
        if !partial && !rare.is_empty() {
            println!("too rare to prove anything: {}", rare.join(", "));
        }
        println!("{}", self.shares);
        println!(
            "{} histories, {} violations",
            self.histories, self.violations
        );
        let vacuous = !partial && (!rare.is_empty() || (forgetful > 100 && seen == 0));
        ExitCode::from(u8::from(self.violations > 0 || vacuous))
    }
}
