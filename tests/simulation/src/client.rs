//! What a client does: it competes for locks, holds them in every way there is, and gives them up or dies.

use std::{sync::Arc, time::Duration};

use redlock_core::{Error, Instant, Lock, Redlock, Resources, validity};
use tokio::time::{advance, sleep, sleep_until, timeout};

use crate::{
    history::{Millis, NAMES},
    hold::Holding,
    link::set,
    node::Set,
    rng::Rng,
    stall::Stalled,
    world::World,
};

pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) world: World,
    /// Everybody's lock managers: locks are handed over.
    pub(crate) redlocks: Arc<[Redlock]>,
    pub(crate) rng: Rng,
}

/// What a client wants next.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) resources: Resources,
    pub(crate) set: Set,
    pub(crate) ttl: Duration,
}

/// How a client locks.
#[derive(Clone, Copy)]
enum Way {
    Try,
    Retry,
    Using,
}

impl Client {
    pub(crate) async fn run(mut self, locks: usize) {
        let mut granted = 0;
        // Not for ever, when the nodes are down.
        for _ in 0..locks + 2 {
            if granted == locks {
                break;
            }
            let wish = self.wish();
            self.await_a_chance(wish.set).await;
            let way = self
                .rng
                .weighted(&[(4, Way::Try), (5, Way::Retry), (2, Way::Using)]);
            granted += usize::from(match way {
                Way::Try => {
                    let redlock = self.redlock();
                    let started = Instant::now();
                    let tried = redlock.try_acquire(&wish.resources, wish.ttl);
                    let outcome = self.operate("acquire", tried).await;
                    // Two rounds of votes, the attempt and its undoing, for each token proposed.
                    let fenced = self.world.state().plan.fencing.is_some();
                    self.took(started, "acquire", if fenced { 6 } else { 2 }, wish.ttl);
                    self.acquired(wish, outcome).await
                }
                Way::Retry => {
                    let redlock = self.redlock();
                    let delays = self.delays(wish.set);
                    let tried = redlock.acquire_with_retry(&wish.resources, wish.ttl, delays);
                    let outcome = self.operate("acquire", tried).await;
                    self.acquired(wish, outcome).await
                }
                Way::Using => self.using(wish).await,
            });
        }
    }

    pub(crate) fn redlock(&self) -> Redlock {
        self.redlocks[self.number].clone()
    }

    fn wish(&mut self) -> Wish {
        let (resources, ttls) = {
            let plan = &self.world.state().plan;
            (plan.resources, plan.ttls)
        };
        let mut names = vec![NAMES[self.rng.index(resources)]];
        names.extend(NAMES[..resources].iter().filter(|_| self.rng.percent(25)));
        names.sort_unstable();
        names.dedup();
        let resources = Resources::new(names).expect("names");
        Wish {
            set: set(&resources),
            resources,
            ttl: Duration::from_millis(self.rng.pick(ttls)),
        }
    }

    /// Comes when it hurts most: when a quorum of keys expires, when something has just happened to a lock.
    async fn await_a_chance(&mut self, set: Set) {
        let nap = {
            let fencing = &self.world.state().plan.fencing;
            fencing.as_ref().map(|clocks| clocks.nap)
        };
        if let Some(nap) = nap.filter(|_| self.rng.percent(10)) {
            sleep(nap).await;
        }
        match self.rng.below(10) {
            0..3 => {
                let wait = self.rng.millis(0, 20);
                sleep(wait).await;
            }
            3..6 => {
                let wait = self.until_free(set);
                sleep(wait).await;
            }
            _ => {
                let _ = timeout(Duration::from_secs(3), self.world.stirred()).await;
                let wait = self.rng.millis(0, 3);
                sleep(wait).await;
            }
        }
    }

    /// About how long it is until a quorum of nodes is free.
    fn until_free(&mut self, set: Set) -> Duration {
        let now = self.world.now();
        let free_in = self.world.state().free_in(set, now);
        (free_in + self.rng.millis(0, 10)).saturating_sub(Duration::from_millis(5))
    }

    fn delays(&mut self, set: Set) -> impl Iterator<Item = Duration> + Send + 'static {
        let (world, mut rng) = (self.world.clone(), self.rng.fork());
        let retries = rng.index(5);
        std::iter::repeat_with(move || {
            let now = world.now();
            let free_in = world.state().free_in(set, now);
            match rng.below(3) {
                0 => rng.millis(1, 150),
                1 => (free_in + rng.millis(0, 6)).saturating_sub(Duration::from_millis(3)),
                _ => free_in + rng.millis(0, 100),
            }
        })
        .take(retries)
    }

    /// Runs an operation of the core to its end, unless it is dropped before; it may stand still meanwhile.
    pub(crate) async fn operate<T>(
        &mut self,
        what: &str,
        operation: impl Future<Output = T>,
    ) -> Option<T> {
        let (stalls, ttl) = {
            let plan = &self.world.state().plan;
            (plan.stalls, plan.longest_ttl())
        };
        if self.rng.percent(stalls) {
            let from = Instant::now() + self.rng.millis(0, 50);
            let for_ = ttl.mul_f64(self.rng.pick(&[0.02, 0.3, 0.96, 1.0, 1.2]));
            let (number, end) = (self.number, from + for_);
            let (since, until) = (self.world.since_start(from), self.world.since_start(end));
            self.world.tell(format_args!(
                "c{number} {what} STANDS STILL from {} to {}",
                Millis(since),
                Millis(until)
            ));
            return Some(Stalled::new(operation, from, end).await);
        }
        if self.rng.percent(5) {
            let patience = self.rng.millis(0, 60);
            let outcome = timeout(patience, operation).await.ok();
            if outcome.is_none() {
                let number = self.number;
                self.world.tell(format_args!("c{number} {what} DROPPED"));
            }
            return outcome;
        }
        Some(operation.await)
    }

    /// I7: nothing takes longer than so many rounds of votes.
    pub(crate) fn took(&self, started: Instant, what: &str, rounds: u32, ttl: Duration) {
        let (now, took) = (self.world.now(), started.elapsed());
        let mut state = self.world.state();
        let timeout = state.plan.node_timeout;
        let timeout = timeout.unwrap_or_else(|| validity::node_timeout(ttl));
        let bound = timeout * rounds + Duration::from_millis(5);
        if state.plan.stalls == 0 && took > bound {
            let number = self.number;
            let what = format_args!("I7: {what} of c{number} took {took:?}, more than {bound:?}");
            state.ledger.violated(now, what);
        }
    }

    /// Lives with what came of it; whether that was a lock.
    async fn acquired(&mut self, wish: Wish, outcome: Option<Result<Lock, Error>>) -> bool {
        let Some(Ok(lock)) = outcome else {
            let now = self.world.now();
            self.world.state().tried(self.number, now);
            return false;
        };
        let holding = Holding::new(self, wish, &lock);
        self.world.may_crash();
        self.world.stir();
        holding.hold(self, lock).await;
        self.world.stir();
        true
    }

    /// The whole machine stands still, or only this client.
    pub(crate) async fn pause(&mut self, until: Instant) {
        let stalls = self.world.state().plan.stalls;
        if stalls > 0 && self.rng.percent(20) {
            let left = until.saturating_duration_since(Instant::now());
            self.world
                .tell(format_args!("EVERYBODY STANDS STILL for {left:?}"));
            advance(left).await;
        } else {
            sleep_until(until).await;
        }
    }
}
