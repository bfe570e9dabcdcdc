//! What goes wrong: a schedule that depends on the seed alone.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng, seq::SliceRandom};
use redlock::Instant;
use redlock_test::proxy::Proxy;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    crowd::Crowd,
    fleet::{Fleet, NODES},
    log::Log,
};

/// How long the right moment for a fault is waited for.
const PATIENCE: Duration = Duration::from_millis(700);
/// What is given back within this time is not worth a fault.
const SETTLED: Duration = Duration::from_millis(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A lock is granted without two nodes, and then two of those forget it that granted it.
    Amnesia,
    Crash,
    Hang,
    HalfOpen,
    Delay,
    LostReplies,
}

/// Something that goes wrong with some nodes for a while.
#[derive(Debug)]
struct Fault {
    kind: Kind,
    /// All nodes in the order of being chosen.
    nodes: [usize; NODES],
    /// How many of them.
    count: usize,
    lasts: Duration,
    /// Whether connections that carried nothing are closed in the end.
    cut: bool,
    /// What share of the time that restarted nodes need is left to them.
    recovery: f64,
    rest: Duration,
}

impl Fault {
    fn draw(rng: &mut StdRng) -> Self {
        let mut nodes = std::array::from_fn(|node| node);
        nodes.shuffle(rng);
        let kind = match rng.random_range(0..12) {
            0..6 => Kind::Amnesia,
            6 | 7 => Kind::Crash,
            8 => Kind::Hang,
            9 => Kind::HalfOpen,
            10 => Kind::Delay,
            _ => Kind::LostReplies,
        };
        let count = match (kind, rng.random_range(0..10)) {
            // A majority.
            (Kind::Crash, 0) => 3,
            (_, 0..6) => 1,
            _ => 2,
        };
        let most = if kind == Kind::Delay { 150 } else { 1500 };
        Self {
            kind,
            nodes,
            count,
            lasts: Duration::from_millis(rng.random_range(20..most)),
            cut: rng.random(),
            recovery: if rng.random_bool(0.8) {
                1.0
            } else {
                rng.random()
            },
            rest: Duration::from_millis(rng.random_range(50..300)),
        }
    }

    async fn happen(&self, fleet: &mut Fleet, crowd: &Crowd, log: &Log) {
        let chosen = &self.nodes[..self.count];
        let nodes = format!("nodes {chosen:?}");
        match self.kind {
            Kind::Amnesia => self.amnesia(fleet, crowd, log).await,
            Kind::Crash => {
                log.fault("kill -9 and restart", &nodes);
                fleet.restart(chosen);
                log.note(format!("{nodes} are up again"));
            }
            Kind::Hang => {
                log.fault("SIGSTOP of servers", &nodes);
                fleet.pause(chosen);
                sleep(self.lasts).await;
                fleet.resume(chosen);
                log.note(format!("SIGCONT of {nodes}"));
            }
            Kind::HalfOpen | Kind::Delay => {
                let delay = self.kind == Kind::Delay;
                let kind = if delay {
                    "delay"
                } else {
                    "half-open connections"
                };
                log.fault(kind, &nodes);
                fleet.network(chosen, Proxy::stall);
                sleep(self.lasts).await;
                if self.cut && !delay {
                    fleet.network(chosen, Proxy::cut);
                }
                fleet.network(chosen, Proxy::resume);
                log.note(format!("{nodes} are reached again"));
            }
            Kind::LostReplies => {
                log.fault("lost replies", &nodes);
                fleet.network(chosen, Proxy::lose_replies);
                sleep(self.lasts).await;
                fleet.network(chosen, Proxy::cut);
                fleet.network(chosen, Proxy::resume);
                log.note(format!("{nodes} are heard again"));
            }
        }
    }

    async fn amnesia(&self, fleet: &mut Fleet, crowd: &Crowd, log: &Log) {
        let [deaf @ .., one, other, _] = self.nodes;
        log.note(format!("nodes {deaf:?} are not reached"));
        fleet.network(&deaf, Proxy::stall);
        let since = Instant::now();
        let mut holder = None;
        while holder.is_none() && since.elapsed() < PATIENCE {
            sleep(Duration::from_millis(5)).await;
            let record = crowd.record();
            let held = record.held(since, Instant::now() - SETTLED);
            holder = held.map(|claim| claim.hold.who.clone());
        }
        let holder = holder.as_deref().unwrap_or("nobody");
        let whom = format!("nodes {:?}, which granted {holder} a lock", [one, other]);
        log.fault("kill -9 and restart, aimed", &whom);
        fleet.restart(&[one, other]);
        // What was on its way to them is lost.
        fleet.network(&deaf, Proxy::cut);
        fleet.network(&deaf, Proxy::resume);
        log.note("these are up again, and the others are reached");
    }

    fn restarts(&self) -> bool {
        matches!(self.kind, Kind::Amnesia | Kind::Crash)
    }
}

/// Lets servers fail, one fault after the other; in the end they are all well.
pub(crate) async fn of_servers(
    fleet: &mut Fleet,
    crowd: &Crowd,
    log: &Log,
    rng: &mut StdRng,
    ttl: Duration,
    end: Instant,
) {
    while Instant::now() < end {
        let fault = Fault::draw(rng);
        fault.happen(fleet, crowd, log).await;
        let rest = if fault.restarts() {
            // As long as a restart guard keeps them out, so that a quorum can vote when the next one comes.
            ttl.mul_f64(1.01 * fault.recovery) + fault.rest
        } else {
            fault.rest
        };
        sleep(rest).await;
    }
}

/// Pauses one client after the other for longer than its locks last, every other one right after it was granted one.
pub(crate) async fn of_clients(
    crowd: &Crowd,
    clients: usize,
    log: &Log,
    rng: &mut StdRng,
    ttl: Duration,
    end: Instant,
) {
    loop {
        sleep(Duration::from_millis(rng.random_range(500..2500))).await;
        let client = rng.random_range(0..clients);
        let (aimed, lasts) = (rng.random(), ttl.mul_f64(rng.random_range(1.05..1.6)));
        if Instant::now() >= end {
            return;
        }
        let (since, grants) = (Instant::now(), crowd.record().grants_of(client));
        while aimed && crowd.record().grants_of(client) == grants && since.elapsed() < PATIENCE {
            sleep(Duration::from_millis(2)).await;
        }
        log.fault("SIGSTOP of a client", &format!("client {client}"));
        crowd.signal(client, Signal::STOP);
        sleep(lasts).await;
        crowd.signal(client, Signal::CONT);
        log.note(format!("SIGCONT of client {client}"));
    }
}
