//! The nodes, the network between them and the clients, and who watches both.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redlock_core::{CLOCK_TOLERANCE, FencingToken, Instant, LockValue};
use tokio::{
    sync::{Notify, oneshot},
    time::{sleep, sleep_until},
};

use crate::{
    history::{History, NAMES, Named},
    ledger::{Ledger, free_at},
    network::{Answer, Answered, Ask, Event, Fate, Queue, Request},
    node::{Node, Set, Time, Value},
    plan::{Memory, Network, Plan},
    register::Register,
    rng::Rng,
};

/// Clones are the same world.
#[derive(Clone, Debug)]
pub(crate) struct World(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    state: Mutex<State>,
    /// A lock was granted, extended, or given up: rivals may want to know.
    stirred: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<Node>,
    pub(crate) ledger: Ledger,
    rng: Rng,
    queue: Queue,
    /// Until when nothing is due, as far as the network knows, and how to tell it better.
    quiet_until: Time,
    sooner: Arc<Notify>,
    values: Vec<LockValue>,
    /// The attempt that each client is at.
    trying: Vec<Option<Value>>,
    crashes: usize,
    registers: [Register; 8],
    /// No message takes longer, but those that are aimed.
    slowest: Duration,
    /// Nodes that have crashed.
    crashed: u8,
}

impl World {
    pub(crate) fn new(plan: Plan, rng: Rng, told: bool) -> Self {
        let ledger = Ledger::new(History::new(told), plan.quorum(), plan.drift_factor);
        let state = State {
            nodes: plan.nodes_at_first(),
            ledger,
            rng,
            queue: Queue::default(),
            quiet_until: Time::ZERO,
            sooner: Arc::default(),
            values: Vec::new(),
            trying: vec![None; plan.clients],
            crashes: 0,
            registers: [Register::default(); 8],
            crashed: 0,
            slowest: plan.network.slowest(),
            plan,
        };
        Self(Arc::new(Shared {
            start: Instant::now(),
            state: Mutex::new(state),
            stirred: Notify::new(),
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Time {
        self.since_start(Instant::now())
    }

    pub(crate) fn since_start(&self, at: Instant) -> Time {
        at.duration_since(self.0.start)
    }

    pub(crate) fn tell(&self, what: fmt::Arguments<'_>) {
        let now = self.now();
        self.state().ledger.history.tell(now, what);
    }

    /// Wakes whoever waits for something to happen to a lock.
    pub(crate) fn stir(&self) {
        self.0.stirred.notify_waiters();
    }

    pub(crate) async fn stirred(&self) {
        self.0.stirred.notified().await;
    }

    /// Notes that a client is about to ask a node, and gives the value its number.
    pub(crate) fn asks(
        &self,
        (client, node): (usize, usize),
        set: Set,
        value: &LockValue,
        ask: Ask,
    ) -> Value {
        let now = self.now();
        let mut state = self.state();
        let value = state.number(value);
        match ask {
            Ask::Acquire(_) | Ask::Fenced(..) => {
                let new = value == state.ledger.attempts.len();
                state.ledger.asks(client, node, value, set, now);
                if new && let Some(before) = state.trying[client].replace(value) {
                    state.over(before, now);
                }
            }
            Ask::Release => state.over(value, now),
            Ask::Extend(_) | Ask::Examine => {}
        }
        value
    }

    /// Sends a request, whether or not anybody waits for the answer; none may ever come.
    pub(crate) fn send(&self, mut request: Request) -> oneshot::Receiver<Answer> {
        let now = self.now();
        let (to, answer) = oneshot::channel();
        request.reply = Some(to);
        self.state().send(request, now);
        answer
    }

    /// Schedules a crash of a node, if there may be one more.
    pub(crate) fn may_crash(&self) {
        let now = self.now();
        let mut state = self.state();
        if state.crashes >= state.plan.crashes || state.rng.percent(40) {
            return;
        }
        state.crashes += 1;
        let nodes = state.nodes.len();
        let node = state.rng.index(nodes);
        let ttl = u64::try_from(state.plan.longest_ttl().as_millis()).expect("seconds");
        let within = state.rng.pick(&[5, 100, ttl]);
        let crash = now + state.rng.millis(0, within);
        let down = state.rng.pick(&[1, 50, ttl / 2, 2 * ttl]);
        let restart = crash + state.rng.millis(1, down);
        let memory = state.plan.memory;
        if memory == Memory::Stale {
            let at = now + crash.saturating_sub(now) / 2;
            state.schedule(at, Event::Snapshot(node));
        }
        state.schedule(crash, Event::Crashes(node, memory));
        state.schedule(restart, Event::Restarts(node));
    }

    /// Increments what the lock protects, whenever that may be.
    pub(crate) fn increment(&self, set: Set, token: FencingToken, after: [Duration; 2]) {
        let world = self.clone();
        tokio::spawn(async move {
            sleep(after[0]).await;
            let read: Vec<_> = set
                .iter()
                .filter_map(|it| Some((it, world.state().registers[it].read(token)?)))
                .collect();
            sleep(after[1]).await;
            for (it, value) in read {
                let written = world.state().registers[it].write(token, value + 1);
                let name = NAMES[it];
                world.tell(format_args!(
                    "{token} writes {} to {name}: {written}",
                    value + 1
                ));
            }
        });
    }

    /// How many nodes have a clock that is right, more or less.
    pub(crate) fn right_clocks(&self) -> usize {
        let close = CLOCK_TOLERANCE.as_secs() / 2;
        let state = self.state();
        let right = |node: &&Node| node.ahead.unsigned_abs() < close;
        state.nodes.iter().filter(right).count()
    }

    /// From now on there are no faults.
    pub(crate) fn calm(&self) {
        let mut state = self.state();
        state.plan.network = Network::calm();
        state.plan.crashes = 0;
        state.plan.stalls = 0;
    }

    /// Has everything happen when it is due.
    pub(crate) async fn run(self) {
        let sooner = Arc::clone(&self.state().sooner);
        loop {
            let now = self.now();
            let next = {
                let mut state = self.state();
                while let Some(event) = state.queue.due(now) {
                    state.happens(event, now);
                }
                let next = state.queue.next();
                state.quiet_until = next.unwrap_or(Time::MAX);
                next
            };
            match next {
                None => sooner.notified().await,
                Some(next) => tokio::select! {
                    biased;
                    () = sooner.notified() => {}
                    () = sleep_until(self.0.start + next) => {}
                },
            }
        }
    }
}

impl State {
    /// A value by order of appearance.
    pub(crate) fn number(&mut self, value: &LockValue) -> Value {
        let known = self.values.iter().rposition(|known| known == value);
        known.unwrap_or_else(|| {
            self.values.push(value.clone());
            self.values.len() - 1
        })
    }

    fn schedule(&mut self, at: Time, event: Event) {
        let order = self.rng.bits();
        self.queue.push(at, order, event);
        if at < self.quiet_until {
            self.quiet_until = at;
            self.sooner.notify_one();
        }
    }

    /// The client's acquisition has ended, in whatever way.
    pub(crate) fn tried(&mut self, client: usize, now: Time) {
        if let Some(value) = self.trying[client].take()
            && !self.ledger.attempts[value].granted
        {
            self.over(value, now);
        }
    }

    /// The value of the client's present attempt.
    pub(crate) fn tried_last(&self, client: usize) -> Value {
        self.trying[client].expect("it tries")
    }

    /// The client's acquisition is granted.
    pub(crate) fn wins(&mut self, client: usize, set: Set) {
        self.trying[client] = None;
        let mut rivals = self.trying.iter().flatten();
        if rivals.any(|value| self.ledger.attempts[*value].set.meets(set)) {
            self.ledger.tally.contended += 1;
        }
    }

    /// The holder is told that it is lost.
    pub(crate) fn loses(&mut self, number: usize, now: Time) {
        self.ledger.tally.lost += 1;
        self.ledger.ends(number, "is LOST", now);
    }

    /// The lock is nobody's any more, until it is adopted.
    pub(crate) fn leaks(&mut self, value: &LockValue) {
        let value = self.number(value);
        self.ledger.attempts[value].leaked = true;
    }

    pub(crate) fn check(&mut self, now: Time) {
        self.ledger.check(&self.nodes, now);
    }

    fn over(&mut self, value: Value, now: Time) {
        if self.ledger.is_over(value, now) {
            for node in 0..self.nodes.len() {
                self.expect_clean(node, value, now);
            }
        }
    }

    fn expect_clean(&mut self, node: usize, value: Value, now: Time) {
        if self.plan.stalls == 0 {
            // To and fro for a release that comes too early, and again for one that does not; before the acquire that
            // it follows, the node may be examined.
            let messages = if self.plan.guarded { 6 } else { 4 };
            let within = self.slowest * messages + Duration::from_millis(10);
            self.schedule(now + within, Event::IsClean(node, value));
        }
    }

    /// What is left of the value on this node is the network's fault.
    fn excuse(&mut self, node: usize, value: Value) {
        self.ledger.attempts[value].excused |= 1 << node;
    }

    /// What becomes of a message between a client and this node.
    fn fate(&mut self, node: usize, set: Set, value: Value, now: Time) -> Fate {
        let quorum = self.plan.quorum();
        let ends = set.iter().map(|it| free_at(&self.nodes, it, now, quorum));
        let aim = if self.plan.network.aimed > 0 {
            let ahead = ends.map(|end| end.saturating_sub(now));
            ahead.filter(|left| !left.is_zero()).min()
        } else {
            None
        };
        let fate = self.plan.network.fate(&mut self.rng, aim);
        match fate {
            Fate::After(delay) if delay <= self.slowest => {}
            _ => self.excuse(node, value),
        }
        fate
    }

    fn send(&mut self, mut request: Request, now: Time) {
        let Request {
            node, set, value, ..
        } = request;
        if self.rng.percent(self.plan.network.twice) {
            self.excuse(node, value);
            let again = Request {
                reply: None,
                ..request
            };
            let after = self.late();
            self.schedule(now + after, Event::Arrives(again));
        }
        let fate = self.fate(node, set, value, now);
        match fate {
            Fate::After(delay) => self.schedule(now + delay, Event::Arrives(request)),
            Fate::Lost => {}
            Fate::Breaks(delay) => {
                if let Some(to) = request.reply.take() {
                    let broken = Answered {
                        to,
                        node,
                        value,
                        answer: Answer::Broken,
                    };
                    self.schedule(now + delay, Event::Answered(broken));
                }
                // It may have gone out before, and arrive whenever it likes.
                if self.rng.percent(50) {
                    let after = self.late();
                    self.schedule(now + after, Event::Arrives(request));
                }
            }
        }
    }

    /// When a message arrives that nobody counts on.
    fn late(&mut self) -> Duration {
        let slowest = self.slowest.as_millis();
        self.rng.millis(0, u64::try_from(slowest).expect("seconds"))
    }

    fn happens(&mut self, event: Event, now: Time) {
        match event {
            Event::Arrives(request) => self.arrives(request, now),
            Event::Answered(answered) => {
                let (node, value) = (answered.node, answered.value);
                if answered.to.send(answered.answer).is_err() {
                    // Whoever asked has given up.
                    self.excuse(node, value);
                }
                return;
            }
            Event::Snapshot(node) => self.nodes[node].snapshot(),
            Event::Crashes(node, memory) => self.crashes(node, memory, now),
            Event::Restarts(node) => {
                let clock = self.rng.pick(&[0.0, 0.0, -1.0, 1.0, 0.5]);
                self.nodes[node].restart(clock);
                self.ledger
                    .history
                    .tell(now, format_args!("n{node} is back"));
            }
            Event::IsClean(node, value) => return self.is_clean(node, value, now),
        }
        self.ledger.check(&self.nodes, now);
    }

    fn crashes(&mut self, node: usize, memory: Memory, now: Time) {
        if !self.nodes[node].up {
            return;
        }
        self.ledger
            .history
            .tell(now, format_args!("n{node} CRASHES, memory {memory:?}"));
        self.crashed |= 1 << node;
        self.ledger.tally.crashes_while_held += u32::from(self.ledger.holds_any());
        self.ledger.tally.forgetful |= memory != Memory::Kept;
        self.nodes[node].crash(memory, self.plan.guarded, now);
    }

    fn arrives(&mut self, request: Request, now: Time) {
        let Request {
            client,
            node: at,
            set,
            value,
            ask,
            incarnation,
            reply,
        } = request;
        let node = &mut self.nodes[at];
        let granted_if = |yes| {
            if yes {
                Answer::Granted
            } else {
                Answer::Refused
            }
        };
        let answer = match ask {
            _ if !node.up => Answer::NobodyThere,
            _ if incarnation.is_some_and(|known| known != node.incarnation) => Answer::NobodyThere,
            Ask::Examine => {
                let age = node.examine(self.plan.longest_ttl(), now);
                Answer::Process(node.incarnation, age)
            }
            Ask::Acquire(ttl) => granted_if(node.acquire(set, value, ttl, now)),
            Ask::Fenced(ttl, proposal) => {
                match node.acquire_fenced(set, value, ttl, proposal, now) {
                    Ok(granted) => granted_if(granted),
                    Err(next) => Answer::TokenRefused(next),
                }
            }
            Ask::Extend(ttl) => granted_if(node.extend(set, value, ttl, now)),
            Ask::Release => granted_if(node.release(set, value, now)),
        };
        self.ledger.history.tell(
            now,
            format_args!(
                "c{client} at n{at}: {ask:?} {set} {} -> {answer:?}",
                Named(value)
            ),
        );
        match (ask, answer) {
            (Ask::Extend(_), Answer::Granted) => self.ledger.node_extended(at, value, now),
            (_, Answer::TokenRefused(_)) => self.ledger.tally.fence_refusals += 1,
            (Ask::Acquire(_) | Ask::Fenced(..), Answer::Granted) if self.ledger.was_over(value) => {
                self.expect_clean(at, value, now);
            }
            _ => {}
        }
        if let Answer::NobodyThere = answer {
            self.excuse(at, value);
            // A host that is gone says nothing at all.
            if !self.nodes[at].up && self.rng.percent(50) {
                return;
            }
        }
        let Some(to) = reply else { return };
        let (answer, delay) = match self.fate(at, set, value, now) {
            Fate::After(delay) => (answer, delay),
            Fate::Breaks(delay) => (Answer::Broken, delay),
            Fate::Lost => return,
        };
        let answered = Answered {
            to,
            node: at,
            value,
            answer,
        };
        self.schedule(now + delay, Event::Answered(answered));
    }

    /// I6: nothing is left of what was given up, unless the network can be blamed.
    fn is_clean(&mut self, node: usize, value: Value, now: Time) {
        let attempt = &self.ledger.attempts[value];
        if attempt.leaked || (attempt.excused | self.crashed) & (1 << node) != 0 {
            return;
        }
        let left = |it| {
            self.nodes[node]
                .key(it, now)
                .is_some_and(|key| key.value == value)
        };
        if attempt.set.iter().any(left) {
            let (client, value) = (attempt.client, Named(value));
            self.ledger.violated(
                now,
                format_args!("I6: {value} of c{client} is over, and n{node} still keeps it"),
            );
        }
    }

    /// I5: of every increment that was accepted something is left.
    pub(crate) fn check_registers(&mut self, now: Time) {
        if let Some(broken) = self.registers.iter().find(|register| !register.is_sound()) {
            let what = format!("I5: increments were lost: {broken:?}");
            self.ledger.violated(now, format_args!("{what}"));
        }
    }

    /// How long until a quorum of nodes is free.
    pub(crate) fn free_in(&self, set: Set, now: Time) -> Duration {
        let quorum = self.plan.quorum();
        let free = set.iter().map(|it| free_at(&self.nodes, it, now, quorum));
        free.max().unwrap_or(now).saturating_sub(now)
    }
}
