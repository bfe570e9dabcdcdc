//! The life of one lock in a client's hands.

use std::time::Duration;

use redlock_core::{Error, Instant, Lock, LostSignal, UsingError};
use tokio::time::{sleep, sleep_until};

use crate::{
    client::{Client, Wish},
    ledger::Hold,
    world::World,
};

/// A hold that the ledger knows.
pub(crate) struct Holding {
    wish: Wish,
    number: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Work,
    /// Until about the deadline.
    Doze,
    Extend,
    /// Right before the deadline.
    ExtendLate,
    Keep,
    HandOver,
}

const STEPS: [(u64, Step); 6] = [
    (4, Step::Work),
    (2, Step::Doze),
    (4, Step::Extend),
    (3, Step::ExtendLate),
    (3, Step::Keep),
    (2, Step::HandOver),
];

#[derive(Clone, Copy)]
enum End {
    Release,
    Drop,
    /// The process dies: nobody releases.
    Die,
}

const ENDS: [(u64, End); 3] = [(5, End::Release), (3, End::Drop), (1, End::Die)];

impl Holding {
    pub(crate) fn new(client: &Client, wish: Wish, lock: &Lock) -> Self {
        let now = client.world.now();
        let deadline = client.world.since_start(lock.valid_until());
        let mut state = client.world.state();
        let value = state.number(lock.value());
        state.wins(client.number, wish.set);
        let hold = Hold::new(client.number, wish.set, value, deadline, wish.ttl);
        let number = state.ledger.granted(hold, now);
        if let Some(token) = lock.fencing_token() {
            state.ledger.tally.fenced = true;
            state.ledger.numbered(number, token, now);
        }
        state.check(now);
        drop(state);
        Self { wish, number }
    }

    pub(crate) async fn hold(mut self, client: &mut Client, mut lock: Lock) {
        if let Some(token) = lock.fencing_token() {
            // Far beyond the deadline, if it comes to that.
            let most = 2 * u64::try_from(self.wish.ttl.as_millis()).expect("seconds");
            let most = client.rng.pick(&[20, most]);
            let after = [client.rng.millis(0, most), client.rng.millis(0, most)];
            client.world.increment(self.wish.set, token, after);
        }
        for _ in 0..client.rng.below(4) {
            match client.rng.weighted(&STEPS) {
                Step::Work => {
                    let ttl = u64::try_from(self.wish.ttl.as_millis()).expect("seconds");
                    let work = client.rng.millis(0, ttl / 3);
                    sleep(work).await;
                }
                Step::Doze => {
                    let until = lock.valid_until() + client.rng.millis(0, 400);
                    client.pause(until - Duration::from_millis(200)).await;
                }
                Step::Extend => self.extend(client, &mut lock).await,
                Step::ExtendLate => {
                    let before = client.rng.millis(0, client_reach(client));
                    if let Some(at) = lock.valid_until().checked_sub(before) {
                        client.pause(at).await;
                    }
                    self.extend(client, &mut lock).await;
                }
                Step::Keep => return self.keep(client, lock).await,
                Step::HandOver => match self.hand_over(client, lock).await {
                    Some(adopted) => lock = adopted,
                    None => return,
                },
            }
        }
        self.end(client, lock).await;
    }

    async fn extend(&self, client: &mut Client, lock: &mut Lock) {
        let ttl = client.wishful_ttl();
        let (old, started) = (lock.valid_until(), Instant::now());
        let Some(outcome) = client.operate("extend", lock.extend(ttl)).await else {
            return;
        };
        client.took(started, "extend", 1, ttl);
        let now = client.world.now();
        let mut state = client.world.state();
        match outcome {
            Ok(()) => {
                let deadline = client.world.since_start(lock.valid_until());
                state.ledger.extended(self.number, deadline, ttl, now);
                if lock.valid_until() < old {
                    let what = format_args!("I3: an extension shortened #{}", self.number);
                    state.ledger.violated(now, what);
                }
                state.check(now);
            }
            Err(Error::Lost(_)) => state.loses(self.number, now),
            Err(error) => {
                let what = format_args!("#{} is not extended: {error}", self.number);
                state.ledger.history.tell(now, what);
            }
        }
        drop(state);
        client.world.stir();
    }

    async fn end(&self, client: &mut Client, lock: Lock) {
        match client.rng.weighted(&ENDS) {
            End::Release => {
                let held = self.gives_up(&client.world, "is released");
                client.world.stir();
                let started = Instant::now();
                let released = client.operate("release", lock.release()).await;
                client.took(started, "release", 1, longest(client));
                self.released(&client.world, held, released);
            }
            End::Drop => {
                self.gives_up(&client.world, "is dropped");
                drop(lock);
            }
            End::Die => {
                client.world.tell(format_args!("c{} DIES", client.number));
                let _ = lock.leak();
            }
        }
    }

    /// Ok says that it was ours until then.
    fn released(&self, world: &World, held: bool, outcome: Option<Result<(), Error>>) {
        let now = world.now();
        let number = self.number;
        match outcome {
            Some(Ok(())) if !held => {
                let what = format_args!("T22: #{number} was lost and is released in time");
                world.state().ledger.violated(now, what);
            }
            Some(Err(error)) => world.tell(format_args!("#{number}: {error}")),
            _ => {}
        }
    }

    /// The client relies on it no longer; whether it could until now.
    fn gives_up(&self, world: &World, how: &str) -> bool {
        let now = world.now();
        let mut state = world.state();
        state.check(now);
        let held = state.ledger.is_held(self.number);
        state.ledger.ends(self.number, how, now);
        held
    }

    async fn keep(self, client: &mut Client, lock: Lock) {
        let kept = lock.keep_alive();
        let signal = kept.signal();
        client
            .world
            .state()
            .ledger
            .kept(self.number, signal.clone());
        let work = self
            .wish
            .ttl
            .mul_f64(client.rng.pick(&[0.4, 0.8, 1.1, 2.0]));
        client
            .world
            .tell(format_args!("#{} is kept alive for {work:?}", self.number));
        let until = Instant::now() + work;
        if client.rng.percent(10) {
            client.pause(until).await;
        }
        tokio::select! {
            biased;
            () = signal.lost() => {
                let now = client.world.now();
                client.world.state().loses(self.number, now);
                let more = client.rng.millis(0, 300);
                sleep(more).await;
                let now = client.world.now();
                client.world.state().ledger.stays_lost(self.number, now);
            }
            () = sleep_until(until) => {}
        }
        let held = self.gives_up(&client.world, "is given up");
        client.world.stir();
        if client.rng.percent(70) {
            let released = client.operate("release", kept.release()).await;
            self.released(&client.world, held, released);
        } else {
            drop(kept);
        }
    }

    /// Somebody else takes it over by its value, in time or not.
    async fn hand_over(&mut self, client: &mut Client, lock: Lock) -> Option<Lock> {
        let deadline = lock.valid_until();
        let value = lock.leak();
        client.world.state().leaks(&value);
        let wait = self.wish.ttl.mul_f64(client.rng.pick(&[0.0, 0.1, 0.5]));
        let wait = if client.rng.percent(30) {
            // Too late, about when the keys expire.
            deadline.saturating_duration_since(Instant::now()) + client.rng.millis(0, 100)
        } else {
            wait
        };
        sleep(wait).await;
        let heir = client.rng.index(client.redlocks.len());
        let redlock = client.redlocks[heir].clone();
        for _ in 0..=client.rng.below(2) {
            let adopted = redlock.adopt(&self.wish.resources, value.clone(), self.wish.ttl);
            match client.operate("adopt", adopted).await {
                Some(Ok(lock)) => {
                    self.adopted(client, heir, &lock);
                    return Some(lock);
                }
                Some(Err(error)) => client
                    .world
                    .tell(format_args!("#{} is not adopted: {error}", self.number)),
                None => {}
            }
            let pause = client.rng.millis(1, 100);
            sleep(pause).await;
        }
        if client.rng.percent(50) {
            self.gives_up(&client.world, "is released by its value");
            let released = redlock.release(&self.wish.resources, value);
            client.operate("release", released).await;
        }
        None
    }

    fn adopted(&mut self, client: &Client, heir: usize, lock: &Lock) {
        let now = client.world.now();
        let deadline = client.world.since_start(lock.valid_until());
        let (set, ttl) = (self.wish.set, self.wish.ttl);
        let mut state = client.world.state();
        state.check(now);
        state.ledger.tally.adopted += 1;
        if state.ledger.is_held(self.number) {
            // A longer ttl may be in force still, which the heir does not know of.
            let deadline = deadline.max(state.ledger.holds[self.number].deadline);
            state.ledger.extended(self.number, deadline, ttl, now);
        } else {
            let value = state.number(lock.value());
            let hold = Hold::new(heir, set, value, deadline, ttl);
            self.number = state.ledger.granted(hold, now);
        }
        state.check(now);
    }
}

fn longest(client: &Client) -> Duration {
    client.world.state().plan.longest_ttl()
}

/// How long a message may be under way, and its answer.
fn client_reach(client: &Client) -> u64 {
    let delay = client.world.state().plan.network.delay;
    (2 * delay + 10) * 3
}

/// Ends a hold of `using` however the routine ends.
struct Routine {
    world: World,
    holding: Holding,
}

impl Drop for Routine {
    fn drop(&mut self) {
        self.holding.gives_up(&self.world, "has run");
    }
}

impl Client {
    fn wishful_ttl(&mut self) -> Duration {
        let ttls = self.world.state().plan.ttls;
        Duration::from_millis(self.rng.pick(ttls))
    }

    /// Whether it got the lock.
    pub(crate) async fn using(&mut self, wish: Wish) -> bool {
        let work = wish.ttl.mul_f64(self.rng.pick(&[0.01, 0.5, 1.2, 1.6]));
        let until_lost = self.rng.percent(50);
        let (world, number, redlock) = (self.world.clone(), self.number, self.redlock());
        let resources = wish.resources.clone();
        let ttl = wish.ttl;
        let using = redlock.using(&resources, ttl, async move |signal: LostSignal| {
            let now = world.now();
            let holding = {
                let mut state = world.state();
                let value = state.tried_last(number);
                state.wins(number, wish.set);
                let deadline = now + signal.validity();
                let hold = Hold::new(number, wish.set, value, deadline, wish.ttl);
                let number = state.ledger.granted(hold, now);
                state.ledger.kept(number, signal.clone());
                state.check(now);
                Holding { wish, number }
            };
            world.may_crash();
            world.stir();
            let routine = Routine { world, holding };
            if until_lost {
                let _ = signal.run_until_lost(sleep(work)).await;
            } else {
                sleep(work).await;
            }
            !signal.is_lost() && {
                let number = routine.holding.number;
                routine.world.state().ledger.is_held(number)
            }
        });
        let outcome = self.operate("using", using).await;
        let now = self.world.now();
        let mut state = self.world.state();
        state.tried(self.number, now);
        let ran = matches!(outcome, Some(Ok(_) | Err(UsingError::Lost { .. })));
        match outcome {
            Some(Ok(false)) => state
                .ledger
                .violated(now, format_args!("T7: using lost its lock and says Ok")),
            Some(Err(UsingError::Lost { .. })) => state.ledger.tally.lost += 1,
            _ => {}
        }
        drop(state);
        self.world.stir();
        ran
    }
}
