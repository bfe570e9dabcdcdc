//! A client of the chaos test over the crate `rslock`, with its defaults but for the retries, which are the test's.

use std::{fmt::Write, time::Duration};

use clap::Parser;
use rand::{SeedableRng, rngs::StdRng};
use redlock::{Instant, LockValue};
use redlock_chaos::{
    plan::{Plan, Style},
    protocol::{Options, Report},
};
use rslock::{Lock, LockError, LockManager};
use tokio::time::sleep;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Args { options } = Args::parse();
    let (report, ttl) = (Report::new(), options.ttl());
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut manager = LockManager::new(options.urls);
    manager.set_retry(1, Duration::from_millis(1));
    loop {
        let mut plan = Plan::draw(&mut rng, ttl);
        // It locks one resource at a time.
        plan.resources.truncate(1);
        let asked = Instant::now();
        match manager.lock(plan.resources[0].as_str(), ttl).await {
            Ok(lock) => {
                report.granted(
                    &plan.resources,
                    &value(&lock),
                    asked,
                    deadline(asked, ttl),
                    None,
                );
                hold(&manager, lock, &plan, deadline(asked, ttl), ttl, &report).await;
            }
            // It does not tell an outage from contention.
            Err(LockError::Unavailable) => report.contended(),
            Err(_) => report.failed(),
        }
        sleep(plan.rest).await;
    }
}

/// What it tells as the validity, counted from before the request.
fn deadline(asked: Instant, ttl: Duration) -> Instant {
    asked + ttl.mul_f64(0.99).saturating_sub(Duration::from_millis(2))
}

fn value(lock: &Lock) -> LockValue {
    let digits = lock.val.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    });
    digits.parse().expect("hexadecimal digits")
}

async fn hold(
    manager: &LockManager,
    mut lock: Lock,
    plan: &Plan,
    mut until: Instant,
    ttl: Duration,
    report: &Report,
) {
    let end = Instant::now() + plan.time;
    while Instant::now() < end {
        let slice = if plan.style == Style::Plain {
            plan.time
        } else {
            ttl / 3
        };
        sleep(slice.min(end - Instant::now())).await;
        if plan.style != Style::Plain {
            let asked = Instant::now();
            match manager.extend(&lock, ttl).await {
                Ok(extended) => {
                    lock = extended;
                    until = deadline(asked, ttl);
                    report.extended(until);
                }
                // As its own `using` does.
                Err(_) => break,
            }
        }
    }
    if Instant::now() >= until {
        return report.lost();
    }
    report.released();
    // A lock of this crate that is dropped stays until its ttl ends.
    if !plan.dropped {
        lock.release().await;
    }
}
