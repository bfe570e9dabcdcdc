//! The client of this library: of even number over the redis crate, of odd number over fred.

use std::{error, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use redlock::{Error, Fencing, FredNode, Instant, Lock, LockBackend, RedisNode, Redlock};
use tokio::time::sleep;

use crate::{
    plan::{Plan, Style},
    protocol::{Options, Report},
};

const HOUR: Duration = Duration::from_secs(3600);
/// How often the clock of a client is set to another time.
const CLOCK_STEPS: Duration = Duration::from_secs(5);

/// Contends until standard input ends, and never returns but with an error.
///
/// # Errors
///
/// When the options make no sense.
pub async fn contend(options: &Options) -> Result<(), Box<dyn error::Error>> {
    let report = Report::new();
    let redlock = redlock(options)?;
    let mut rng = StdRng::seed_from_u64(options.seed);
    loop {
        let plan = Plan::draw(&mut rng, options.ttl());
        let asked = Instant::now();
        let acquired = redlock.try_acquire(&plan.resources, options.ttl()).await;
        match acquired {
            Ok(lock) => {
                let (until, token) = (lock.valid_until(), lock.fencing_token());
                report.granted(&plan.resources, lock.value(), asked, until, token);
                hold(lock, &plan, options.ttl(), &report).await;
            }
            Err(Error::Locked(_)) => report.contended(),
            Err(Error::Invalid(invalid)) => return Err(invalid.into()),
            Err(_) => report.failed(),
        }
        sleep(plan.rest).await;
    }
}

fn redlock(options: &Options) -> Result<Redlock, Box<dyn error::Error>> {
    let node = |url: &String| -> Result<Arc<dyn LockBackend>, Box<dyn error::Error>> {
        let ttl = options.ttl();
        Ok(match (options.number % 2, options.guard) {
            (0, false) => Arc::new(RedisNode::new(url.as_str())?),
            (0, true) => Arc::new(RedisNode::builder().restart_guard(ttl).open(url.as_str())?),
            (_, false) => Arc::new(FredNode::new(url)?),
            (_, true) => Arc::new(FredNode::builder().restart_guard(ttl).open(url)?),
        })
    };
    let nodes = options
        .urls
        .iter()
        .map(node)
        .collect::<Result<Vec<_>, _>>()?;
    let builder = Redlock::builder(nodes);
    let builder = if options.fencing {
        builder.fencing(wrong_clock(options.seed))
    } else {
        builder
    };
    Ok(builder.build()?)
}

/// Fencing by a clock that is set anew every few seconds: to within an hour of the right time, or to within five
/// minutes, which is what nodes tolerate.
#[expect(clippy::disallowed_types, reason = "no lock's time is measured by it")]
fn wrong_clock(seed: u64) -> Fencing {
    use std::time::SystemTime;
    let start = Instant::now();
    Fencing::new().clock(move || {
        let step = start.elapsed().as_secs() / CLOCK_STEPS.as_secs();
        let mut rng = StdRng::seed_from_u64(seed ^ step);
        let most = if rng.random() { HOUR } else { HOUR / 12 };
        let off = most.mul_f64(rng.random());
        let now = SystemTime::now();
        if rng.random() { now + off } else { now - off }
    })
}

async fn hold(mut lock: Lock, plan: &Plan, ttl: Duration, report: &Report) {
    let end = Instant::now() + plan.time;
    match plan.style {
        Style::Plain => sleep(plan.time).await,
        Style::Extended => {
            while Instant::now() < end {
                sleep((end - Instant::now()).min(ttl / 3)).await;
                match lock.extend(ttl).await {
                    Ok(()) => report.extended(lock.valid_until()),
                    Err(Error::Lost(_)) => return report.lost(),
                    Err(_) => {}
                }
            }
        }
        Style::Kept => return keep(lock, plan, end, report).await,
    }
    if !lock.is_valid() {
        return report.lost();
    }
    report.released();
    if plan.dropped {
        drop(lock);
    } else {
        let _ = lock.release().await;
    }
}

async fn keep(lock: Lock, plan: &Plan, end: Instant, report: &Report) {
    let mut until = lock.valid_until();
    let kept = lock.keep_alive();
    while Instant::now() < end {
        sleep((end - Instant::now()).min(Duration::from_millis(20))).await;
        // In this order: rather too early a deadline than too late a one.
        let (now, validity) = (Instant::now(), kept.validity());
        if validity.is_zero() {
            return report.lost();
        }
        if now + validity > until + Duration::from_millis(1) {
            until = now + validity;
            report.extended(until);
        }
    }
    report.released();
    if plan.dropped {
        drop(kept);
    } else {
        let _ = kept.release().await;
    }
}
