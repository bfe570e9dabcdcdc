//! One seed, one history.

use std::{iter, sync::Arc, time::Duration};

use redlock_core::{CLOCK_TOLERANCE, FORGETFUL, Fencing, Redlock};
use tokio::{runtime::Builder, task::JoinSet, time::sleep};

use crate::{
    client::Client, history::NAMES, link::Link, node::EPOCH, plan::Plan, report::Report, rng::Rng,
    world::World,
};

/// The history of a seed.
#[must_use]
pub fn simulate(seed: u64) -> Report {
    run(seed, false)
}

/// The history of a seed, with every event as text.
#[must_use]
pub fn tell(seed: u64) -> Report {
    run(seed, true)
}

fn run(seed: u64, told: bool) -> Report {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(history(seed, told))
}

async fn history(seed: u64, told: bool) -> Report {
    let mut rng = Rng::new(seed);
    let plan = Plan::draw(&mut rng);
    let world = World::new(plan.clone(), rng.fork(), told);
    world.tell(format_args!("seed {seed}: {plan:?}"));
    let network = tokio::spawn(world.clone().run());
    let redlocks: Arc<[_]> = (0..plan.clients)
        .map(|client| {
            let ahead = plan.fencing.as_ref().map(|it| it.clients[client]);
            redlock(&world, &plan, client, ahead)
        })
        .collect();
    let mut clients = JoinSet::new();
    for number in 0..plan.clients {
        let client = Client {
            number,
            world: world.clone(),
            redlocks: Arc::clone(&redlocks),
            rng: rng.fork(),
        };
        clients.spawn(client.run(plan.locks));
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client ends");
    }
    world.calm();
    all_is_well(&world, &plan, &redlocks, rng.fork()).await;
    network.abort();
    let mut state = world.state();
    let ledger = &mut state.ledger;
    Report {
        violations: std::mem::take(&mut ledger.violations),
        is_unsafe: plan.guarded_against_nothing() && ledger.tally.forgetful,
        tally: ledger.tally,
        history: ledger.history.take(),
    }
}

fn redlock(world: &World, plan: &Plan, client: usize, ahead: Option<i64>) -> Redlock {
    let links = (0..plan.nodes()).map(|node| Link::new(world, client, node));
    let mut builder = Redlock::builder(links)
        .drift_factor(plan.drift_factor)
        .retry_count(2)
        .retry_jitter(Duration::ZERO);
    if let (Some(clocks), Some(ahead)) = (&plan.fencing, ahead) {
        let world = world.clone();
        let clock = move || wall_clock(world.now(), ahead);
        builder = builder.fencing(Fencing::new().keep_for(clocks.keep_for).clock(clock));
    }
    if let Some(timeout) = plan.node_timeout {
        builder = builder.node_timeout(timeout);
    }
    if let Some(timeout) = plan.cleanup_timeout {
        builder = builder.cleanup_timeout(timeout);
    }
    builder.build().expect("settings that make sense")
}

#[expect(clippy::disallowed_types, reason = "what fencing asks a client for")]
fn wall_clock(now: Duration, ahead: i64) -> std::time::SystemTime {
    let micros = EPOCH.saturating_add_signed(ahead * 1_000_000);
    std::time::SystemTime::UNIX_EPOCH + Duration::from_micros(micros) + now
}

/// I7: when the faults are over and what they left has expired, whoever wants a lock gets it.
async fn all_is_well(world: &World, plan: &Plan, redlocks: &[Redlock], mut rng: Rng) {
    let ttl = plan.longest_ttl();
    // Until every node is back and the last message has arrived.
    sleep(ttl * 5 + plan.network.slowest()).await;
    world.tell(format_args!("ALL IS WELL"));
    let all = &NAMES[..plan.resources];
    if plan.guarded {
        // Nodes count again so long after they were seen first.
        let _ = redlocks[0].try_acquire(all, ttl).await;
        sleep(ttl.mul_f64(1.2)).await;
    }
    if plan.fencing.is_some() {
        // Nor is any token left that is ahead of the clocks.
        sleep(FORGETFUL.mul_f64(1.2)).await;
        if world.right_clocks() < plan.quorum() {
            return;
        }
    }
    // Also of the clients only those whose clocks are right.
    let right: Vec<_> = (0..plan.clients)
        .map(|client| redlock(world, plan, client, Some(0)))
        .collect();
    // Tokens that suit all nodes may take more than one attempt.
    let retries = if plan.fencing.is_some() { 10 } else { 0 };
    let delays = iter::repeat_n(Duration::from_millis(100), retries);
    let mut outcome = right[0].acquire_with_retry(all, ttl, delays.clone()).await;
    if outcome.is_err() && plan.fencing.is_some() && world.right_clocks() < plan.nodes() {
        // A token that suited a wrong clock may stand in the way until the others' have come to it.
        sleep(CLOCK_TOLERANCE).await;
        outcome = right[0].acquire_with_retry(all, ttl, delays).await;
    }
    match outcome {
        Ok(lock) => drop(lock),
        Err(error) => {
            let what = format_args!("I7: nobody holds it, and it is not granted: {error}");
            let now = world.now();
            world.state().ledger.violated(now, what);
        }
    }
    // Of those who compete while a clock is wrong, nobody may win for long.
    if plan.crowd && (plan.fencing.is_none() || world.right_clocks() == plan.nodes()) {
        crowd(world, &right, ttl, &mut rng).await;
    }
    sleep(Duration::from_millis(50)).await;
    let now = world.now();
    let mut state = world.state();
    state.check_registers(now);
    let left = |it| state.nodes.iter().any(|node| node.key(it, now).is_some());
    if (0..plan.resources).any(left) {
        let what = format_args!("I6: all is well, all is released, and a key is left");
        state.ledger.violated(now, what);
    }
}

/// All want the same at once.
async fn crowd(world: &World, redlocks: &[Redlock], ttl: Duration, rng: &mut Rng) {
    let mut waiters = JoinSet::new();
    for redlock in redlocks {
        let (redlock, mut rng) = (redlock.clone(), rng.fork());
        waiters.spawn(async move {
            let delays = iter::repeat_with(move || rng.millis(20, 120)).take(200);
            let lock = redlock.acquire_with_retry(NAMES[0], ttl, delays).await?;
            sleep(Duration::from_millis(5)).await;
            lock.release().await
        });
    }
    while let Some(ended) = waiters.join_next().await {
        if let Err(error) = ended.expect("a waiter ends") {
            let now = world.now();
            let what = format_args!("I7: a waiter in a crowd was not served: {error}");
            world.state().ledger.violated(now, what);
        }
    }
}
