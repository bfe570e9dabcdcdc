//! The lock: acquire, extend, release, undo, expiry, and nodes that restart.
//!
//! **Network.** A request once sent may reach each node at any later time, any number of times, or never;
//! the same goes for answers. So requests are a set that only grows, and a client counts the answers that
//! were given whenever it likes.
//!
//! **Time.** Everything that ends counts down in ticks of real time; between two ticks anything may
//! happen, and a client that takes no step is paused. A key set for a ttl stays for [`KEPT`] ticks and
//! may vanish at any time after, as nodes' clocks run up to [`DRIFT`] ticks per ttl faster. Nothing
//! depends on how late it is, so there is no horizon: what is bounded is only the number of attempts.
//!
//! **Restarts.** A node that restarts has lost its keys. Its grants count only after the guard's delay.

use redlock_core::quorum::quorum;

use crate::explore::Model;

const NODES: usize = 3;
const MAX_CLIENTS: usize = 3;
/// Of all clients together.
const MAX_ATTEMPTS: u8 = 4;
/// Of one lock.
const MAX_EXTENSIONS: u8 = 2;

/// How long a key surely stays: the ttl, as the fastest clock among the nodes runs.
const KEPT: u8 = 2;
/// The drift allowance: `KEPT + DRIFT` is the ttl.
const DRIFT: u8 = 1;
/// How long the grants of a restarted node do not count: the longest ttl.
const GUARD: u8 = KEPT + DRIFT;
/// Instead of the time left: the key has no ttl.
const FOR_EVER: u8 = u8::MAX;
/// Instead of a value: the resource is free.
const FREE: u8 = u8::MAX;

/// How many of what, at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Clients that want the same resource.
    pub clients: u8,
    /// Attempts of each client, whether they fail or not.
    pub attempts: u8,
    /// Extensions of each lock, whether they fail or not.
    pub extensions: u8,
    /// Restarts of all nodes together.
    pub restarts: u8,
}

/// What can be wrong with an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Half of the nodes count as a quorum.
    HalfIsAQuorum,
    /// A release deletes the key, whatever its value.
    ReleaseWithoutValue,
    /// All attempts of a client have the same value.
    ValueReused,
    /// A quorum is a grant, however late it is.
    ValidityUnchecked,
    /// The validity counts from the last reply.
    ClockStartedAfterReplies,
    /// The validity is the whole ttl.
    DriftMissing,
    /// The validity of an extension counts from its last reply.
    ExtensionCountedFromReply,
    /// An extension counts as granted when it is sent.
    ExtensionGrantedWhenSent,
    /// An extension restarts the ttl of the key, whatever its value.
    ExtensionWithoutValue,
    /// An extension sets a missing key again, also past the deadline.
    ExtensionRevives,
    /// An extension counts also past the deadline.
    LateExtension,
    /// The grants of a restarted node count at once.
    RestartWithoutDelay,
    /// A grant of an earlier attempt counts for the present one.
    StaleReplyCounted,
    /// Every copy of a reply is a vote.
    VotesPerReply,
    /// The key and its ttl are set by two commands.
    TtlBySecondCommand,
}

/// The protocol within these bounds, with a flaw or without.
#[derive(Clone, Debug)]
pub struct Lock {
    /// How many of what.
    pub bounds: Bounds,
    /// What is wrong.
    pub flaw: Option<Flaw>,
}

/// One answer to one question: an attempt's acquisition, or one of its extensions.
type Round = u8;
/// A set of rounds or attempts.
type Set = u16;

const fn acquisition(attempt: u8) -> Round {
    attempt
}

const fn extension(attempt: u8, number: u8) -> Round {
    MAX_ATTEMPTS + attempt * MAX_EXTENSIONS + number
}

const fn one(member: u8) -> Set {
    1 << member
}

/// A node, and what it answered: sorted, as it does not matter which node is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The value of the key.
    value: u8,
    /// For how long the key surely stays.
    left: u8,
    /// For how long its grants do not count.
    guarded: u8,
    /// The rounds that it granted and that still wait for votes.
    granted: Set,
    /// Those of them that do not count yet.
    withheld: Set,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    #[default]
    Idle,
    Asking,
    /// It was granted the lock and has not released it; valid only while time is left.
    Holding,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Client {
    phase: Phase,
    /// How many attempts it has begun.
    attempts: u8,
    /// How long its present attempt or lock is valid.
    left: u8,
    /// How many extensions of this lock it has begun.
    extensions: u8,
    extending: bool,
    /// How long the lock will be valid if the present extension is granted.
    left_if_extended: u8,
    /// Somebody else was granted the lock since it was.
    overtaken: bool,
}

impl Client {
    fn valid(self) -> bool {
        self.phase == Phase::Holding && self.left > 0
    }
}

/// The nodes, the clients, and the requests under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [Node; NODES],
    clients: [Client; MAX_CLIENTS],
    /// The rounds whose requests were sent.
    sent: Set,
    /// The attempts whose releases were sent.
    released: Set,
    restarts: u8,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "shown in counterexamples")]
pub enum Step {
    /// Time passes.
    Tick,
    /// A client acts.
    Client(u8, Act),
    /// Something happens at a node.
    Node(usize, Event),
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// It sends the acquisition of a new attempt to all nodes.
    Ask,
    /// It has a quorum, in time.
    Hold,
    /// It gives up its attempt and undoes it on all nodes.
    GiveUp,
    /// It releases its lock, valid or not.
    Release,
    /// It sends an extension to all nodes.
    Extend,
    /// It has a quorum for its extension, in time.
    Extended,
    /// It gives up its extension.
    NotExtended,
}

/// What happens at a node, by a request of which attempt.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "shown in counterexamples")]
pub enum Event {
    /// It grants an acquisition.
    Acquire(u8),
    /// It refuses an acquisition.
    Refuse(u8),
    /// It restarts the key's ttl.
    Rearm(u8),
    /// It deletes the key.
    Delete(u8),
    /// The key reaches its end.
    Expire,
    /// It loses what it holds.
    Restart,
}

impl Lock {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Whether a quorum keeps each valid lock for as long, or takes no part for as long.
    fn covered(&self, state: &State) -> bool {
        (0..self.bounds.clients).all(|client| {
            let it = state.clients[usize::from(client)];
            let value = self.value(self.attempt(state, client));
            let keeps = |node: &&Node| {
                node.guarded >= it.left || node.value == value && node.left >= it.left
            };
            !it.valid() || state.nodes.iter().filter(keeps).count() >= self.quorum()
        })
    }

    fn quorum(&self) -> usize {
        if self.is(Flaw::HalfIsAQuorum) {
            NODES / 2
        } else {
            quorum(NODES)
        }
    }

    fn validity(&self) -> u8 {
        if self.is(Flaw::DriftMissing) {
            KEPT + DRIFT
        } else {
            KEPT
        }
    }

    fn guard(&self) -> u8 {
        if self.is(Flaw::RestartWithoutDelay) {
            0
        } else {
            GUARD
        }
    }

    fn accepts_late(&self) -> bool {
        self.is(Flaw::LateExtension) || self.is(Flaw::ExtensionRevives)
    }

    /// The client's present attempt, of no meaning before its first.
    fn attempt(&self, state: &State, client: u8) -> u8 {
        let begun = state.clients[usize::from(client)].attempts;
        (client * self.bounds.attempts + begun).wrapping_sub(1)
    }

    fn client_of(&self, attempt: u8) -> u8 {
        attempt / self.bounds.attempts
    }

    fn value(&self, attempt: u8) -> u8 {
        if self.is(Flaw::ValueReused) {
            self.client_of(attempt) * self.bounds.attempts
        } else {
            attempt
        }
    }

    /// Whether the client of this attempt is in it, in this phase.
    fn is_in(&self, state: &State, attempt: u8, phase: Phase) -> bool {
        let client = self.client_of(attempt);
        self.attempt(state, client) == attempt && state.clients[usize::from(client)].phase == phase
    }

    /// The rounds whose grants count as this one's.
    fn counted_for(&self, round: Round) -> Set {
        if self.is(Flaw::StaleReplyCounted) && round < MAX_ATTEMPTS {
            let first = self.client_of(round) * self.bounds.attempts;
            (first..=round).map(one).sum()
        } else {
            one(round)
        }
    }

    fn has_quorum(&self, state: &State, round: Round) -> bool {
        let counted = self.counted_for(round);
        let votes = state.nodes.iter().filter(|it| it.granted & counted != 0);
        let copies = if self.is(Flaw::VotesPerReply) { 2 } else { 1 };
        votes.count() * copies >= self.quorum()
    }

    /// Ends the wait for a round's votes: they are of no use any more.
    fn forget(&self, state: &mut State, round: Round) {
        if self.is(Flaw::StaleReplyCounted) {
            return;
        }
        for node in &mut state.nodes {
            node.granted &= !one(round);
            node.withheld &= !one(round);
        }
    }

    fn client_steps(&self, state: &State, client: u8, add: &mut impl FnMut(Step, State)) {
        let index = usize::from(client);
        let it = state.clients[index];
        let attempt = self.attempt(state, client);
        match it.phase {
            Phase::Idle if it.attempts < self.bounds.attempts => {
                let mut next = *state;
                next.clients[index] = Client {
                    phase: Phase::Asking,
                    attempts: it.attempts + 1,
                    left: self.validity(),
                    ..Client::default()
                };
                next.sent |= one(acquisition(self.attempt(&next, client)));
                add(Step::Client(client, Act::Ask), next);
            }
            Phase::Idle => {}
            Phase::Asking => {
                let in_time = it.left > 0 || self.is(Flaw::ValidityUnchecked);
                if in_time && self.has_quorum(state, acquisition(attempt)) {
                    add(Step::Client(client, Act::Hold), self.hold(state, client));
                }
                add(Step::Client(client, Act::GiveUp), self.end(state, client));
            }
            Phase::Holding => {
                self.extension_steps(state, client, add);
                add(Step::Client(client, Act::Release), self.end(state, client));
            }
        }
    }

    fn hold(&self, state: &State, client: u8) -> State {
        let mut next = *state;
        self.forget(&mut next, acquisition(self.attempt(state, client)));
        for other in &mut next.clients {
            other.overtaken |= other.phase == Phase::Holding;
        }
        let it = &mut next.clients[usize::from(client)];
        it.phase = Phase::Holding;
        if self.is(Flaw::ClockStartedAfterReplies) {
            it.left = self.validity();
        } else if self.is(Flaw::ValidityUnchecked) {
            // Who does not look believes at least for this moment.
            it.left = it.left.max(1);
        }
        next
    }

    fn extension_steps(&self, state: &State, client: u8, add: &mut impl FnMut(Step, State)) {
        let index = usize::from(client);
        let it = state.clients[index];
        let attempt = self.attempt(state, client);
        let alive = it.left > 0 || self.accepts_late();
        if !it.extending && alive && it.extensions < self.bounds.extensions {
            let mut next = *state;
            next.sent |= one(extension(attempt, it.extensions));
            let extended = &mut next.clients[index];
            extended.extensions += 1;
            extended.extending = true;
            extended.left_if_extended = self.validity();
            if self.is(Flaw::ExtensionGrantedWhenSent) {
                extended.left = self.validity();
                extended.extending = false;
                extended.left_if_extended = 0;
            }
            add(Step::Client(client, Act::Extend), next);
        }
        if it.extending {
            let round = extension(attempt, it.extensions - 1);
            let mut ended = *state;
            self.forget(&mut ended, round);
            ended.clients[index].extending = false;
            ended.clients[index].left_if_extended = 0;
            if alive && self.has_quorum(state, round) {
                let mut next = ended;
                next.clients[index].left = if self.is(Flaw::ExtensionCountedFromReply) {
                    self.validity()
                } else {
                    it.left_if_extended
                };
                add(Step::Client(client, Act::Extended), next);
            }
            add(Step::Client(client, Act::NotExtended), ended);
        }
    }

    /// Gives back whatever the present attempt has or may have.
    fn end(&self, state: &State, client: u8) -> State {
        let mut next = *state;
        let attempt = self.attempt(state, client);
        self.forget(&mut next, acquisition(attempt));
        for number in 0..MAX_EXTENSIONS {
            self.forget(&mut next, extension(attempt, number));
        }
        next.released |= one(attempt);
        let it = &mut next.clients[usize::from(client)];
        *it = Client {
            attempts: it.attempts,
            ..Client::default()
        };
        next
    }

    fn node_steps(&self, state: &State, index: usize, add: &mut impl FnMut(Step, State)) {
        let node = state.nodes[index];
        let mut to = |event, changed: Node| {
            let mut next = *state;
            next.nodes[index] = changed;
            next.restarts += u8::from(matches!(event, Event::Restart));
            add(Step::Node(index, event), next);
        };
        for attempt in 0..self.bounds.clients * self.bounds.attempts {
            if state.sent & one(acquisition(attempt)) != 0 {
                self.acquire(state, node, attempt, &mut to);
            }
            for number in 0..self.bounds.extensions {
                if state.sent & one(extension(attempt, number)) != 0 {
                    self.extend(state, node, attempt, number, &mut to);
                }
            }
            if state.released & one(attempt) != 0 {
                self.release(node, attempt, &mut to);
            }
        }
        if node.value != FREE && node.left == 0 {
            to(Event::Expire, node.freed());
        }
        if state.restarts < self.bounds.restarts {
            to(Event::Restart, node.restarted(self.guard()));
        }
    }

    fn acquire(&self, state: &State, node: Node, attempt: u8, to: &mut impl FnMut(Event, Node)) {
        let value = self.value(attempt);
        if node.value == FREE {
            let waits = self.is_in(state, attempt, Phase::Asking);
            let waits = waits || self.is(Flaw::StaleReplyCounted);
            let mut held = node.voted(acquisition(attempt), waits).held(value);
            if self.is(Flaw::TtlBySecondCommand) {
                held.left = FOR_EVER;
            }
            to(Event::Acquire(attempt), held);
        } else {
            to(Event::Refuse(attempt), node);
        }
        if node.value == value && self.is(Flaw::TtlBySecondCommand) {
            to(Event::Rearm(attempt), node.held(value));
        }
    }

    fn extend(
        &self,
        state: &State,
        node: Node,
        attempt: u8,
        number: u8,
        to: &mut impl FnMut(Event, Node),
    ) {
        let value = self.value(attempt);
        let client = state.clients[usize::from(self.client_of(attempt))];
        let in_it = client.extending && client.extensions == number + 1;
        let waits = in_it && self.is_in(state, attempt, Phase::Holding);
        let voted = node.voted(extension(attempt, number), waits);
        if node.value == value || node.value == FREE && self.is(Flaw::ExtensionRevives) {
            to(Event::Rearm(attempt), voted.held(value));
        } else if node.value != FREE && self.is(Flaw::ExtensionWithoutValue) {
            to(Event::Rearm(attempt), voted.held(node.value));
        }
    }

    fn release(&self, node: Node, attempt: u8, to: &mut impl FnMut(Event, Node)) {
        let whatever = node.value != FREE && self.is(Flaw::ReleaseWithoutValue);
        if node.value == self.value(attempt) || whatever {
            to(Event::Delete(attempt), node.freed());
        }
    }
}

impl Node {
    /// The node after it granted a round, for which somebody waits or nobody does.
    fn voted(mut self, round: Round, waits: bool) -> Self {
        if waits && self.granted & one(round) == 0 {
            if self.guarded == 0 {
                self.granted |= one(round);
                self.withheld &= !one(round);
            } else {
                self.withheld |= one(round);
            }
        }
        self
    }

    fn held(self, value: u8) -> Self {
        let left = KEPT;
        Self {
            value,
            left,
            ..self
        }
    }

    fn freed(self) -> Self {
        Self {
            value: FREE,
            left: 0,
            ..self
        }
    }

    fn restarted(self, guarded: u8) -> Self {
        // What it answered late in an earlier delay came over connections that are gone.
        let withheld = 0;
        Self {
            guarded,
            withheld,
            ..self.freed()
        }
    }

    fn after_a_tick(mut self) -> Self {
        if self.left != FOR_EVER {
            self.left = self.left.saturating_sub(1);
        }
        self.guarded = self.guarded.saturating_sub(1);
        if self.guarded == 0 {
            // An answer may have been under way until now.
            self.granted |= self.withheld;
            self.withheld = 0;
        }
        self
    }
}

impl Model for Lock {
    type State = State;
    type Step = Step;

    fn landmarks(&self) -> Vec<&'static str> {
        let mut landmarks = vec![REFUSED, SECOND];
        if self.bounds.extensions > 0 {
            landmarks.push(EXTENDED);
        }
        if self.bounds.restarts > 0 {
            landmarks.push(RESTARTED);
        }
        landmarks
    }

    fn starts(&self) -> Vec<State> {
        let node = Node {
            value: FREE,
            left: 0,
            guarded: 0,
            granted: 0,
            withheld: 0,
        };
        vec![State {
            nodes: [node; NODES],
            clients: [Client::default(); MAX_CLIENTS],
            sent: 0,
            released: 0,
            restarts: 0,
        }]
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        let mut add = |step, mut next: State| {
            next.nodes.sort_unstable();
            steps.push((step, next));
        };
        for client in 0..self.bounds.clients {
            self.client_steps(state, client, &mut add);
        }
        for node in 0..NODES {
            self.node_steps(state, node, &mut add);
        }
        let mut next = *state;
        next.nodes = next.nodes.map(Node::after_a_tick);
        for client in &mut next.clients {
            client.left = client.left.saturating_sub(1);
            client.left_if_extended = client.left_if_extended.saturating_sub(1);
        }
        add(Step::Tick, next);
    }

    fn landmark(&self, before: &State, step: Step) -> Option<&'static str> {
        let held = before.clients.iter().any(|it| it.valid());
        let lapsed = |it: &Client| it.phase == Phase::Holding && it.left == 0;
        match step {
            Step::Node(_, Event::Refuse(_)) if held => Some(REFUSED),
            Step::Client(_, Act::Hold) if before.clients.iter().any(lapsed) => Some(SECOND),
            Step::Client(_, Act::Extended) => Some(EXTENDED),
            Step::Node(_, Event::Restart) if held => Some(RESTARTED),
            _ => None,
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let mut valid = state.clients.iter().filter(|it| it.valid());
        if valid.clone().count() > 1 {
            return Some("exclusion: two clients believe to hold the lock");
        }
        if valid.any(|it| it.overtaken) {
            return Some("continuity: another was granted the lock in between");
        }
        // Only of the protocol: a flaw is to show what comes of it.
        if self.flaw.is_none() && !self.covered(state) {
            return Some("coverage: a lock is valid for longer than a quorum keeps it");
        }
        let over = |node: &Node| node.left == FOR_EVER && state.released & one(node.value) != 0;
        if state.nodes.iter().any(over) {
            return Some("clean-up: a key that is given back has no ttl");
        }
        None
    }
}

const REFUSED: &str = "refused while another holds it";
const SECOND: &str = "granted after another's deadline";
const EXTENDED: &str = "extended";
const RESTARTED: &str = "restarted while it is held";
