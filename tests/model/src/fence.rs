//! Fencing tokens: accepted by a quorum of nodes, each by its own clock.
//!
//! Everything that the argument does not need is left to chance, so it holds without it:
//! - A client proposes **any** token: its clock, and what it learnt, do not matter.
//! - Locks are free at any moment, whoever held them: no answer is "held".
//! - Requests arrive any number of times, at any later time, or never, and so do answers.
//!
//! A proposal is one round: one value, one token, one question to all nodes. Several proposals of one
//! attempt are several of these, and so are several clients.
//!
//! **Time** and tokens have the same unit. A node forgets a fence when its lifetime has passed by its own
//! clock. Either each node's clock runs as it likes, or, where the restart guard has to measure a time, all
//! clocks run alike.

use std::{iter, ops::RangeInclusive};

use redlock_core::quorum::quorum;

use crate::explore::Model;

const NODES: usize = 3;
/// At most so many proposals.
const MAX_PROPOSALS: usize = 3;

/// How far a token may be from a node's clock.
const TOLERANCE: u8 = 1;
/// How far above the stored fence a token may be, where that is already as far above the clock: next to
/// the tolerance, nothing.
const NUDGE: u8 = 0;
/// How long a fence is kept: the least that is more than twice the tolerance.
const LIFETIME: u8 = 2 * TOLERANCE + 1;
const FOR_EVER: u8 = u8::MAX;
/// A lock's ttl: the guard's delay without fencing.
const MAX_TTL: u8 = 1;
/// Where the clock that is farthest ahead begins, so that none gets below zero.
const BEGINNING: u8 = 10 * TOLERANCE;
/// Instead of a fence: none is stored, or none is granted.
const NONE: u8 = 0;

/// How clocks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// Each node's clock runs forward as it likes.
    Apart,
    /// All run alike, which a delay that is measured elsewhere needs.
    Together,
}

/// How many of what, at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Proposals of all clients together.
    pub proposals: u8,
    /// How far the clocks run.
    pub time: u8,
    /// Restarts of all nodes together.
    pub restarts: u8,
    /// How clocks run.
    pub clocks: Clocks,
    /// How far apart clocks are at first, and how far behind is that of a replica promoted at a restart.
    pub behind: u8,
    /// Whether fences expire.
    pub expiry: bool,
}

/// What can be wrong with an implementation, or with its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A node accepts the token that it has already accepted.
    EqualTokenAccepted,
    /// A node accepts any token.
    FenceUnchecked,
    /// Each node counts by itself, and the token is the largest count among the votes.
    CountersPerNode,
    /// A restarted node's votes count after the longest ttl of a lock.
    GuardedForTtlOnly,
    /// A node that has no fence accepts tokens far below its clock.
    NoLowerBound,
    /// A node that has a fence accepts tokens far below its clock, if they are above the fence.
    LowerBoundOnlyWithoutFence,
    /// A node accepts tokens however far above its clock.
    NoUpperBound,
    /// A fence is kept for twice the tolerance and no longer.
    ShortLifetime,
    /// A vote counts if the guard's delay is over when its answer arrives, whenever it was asked for.
    GuardedUntilReply,
    /// The nudge is as large as the tolerance.
    LargeNudge,
    /// A node's clock steps back after its fence expired.
    ClockStepsBack,
    /// A promoted replica's clock is farther behind than the guard's delay allows for.
    ReplicaFartherBehind,
}

/// The protocol within these bounds, with a flaw or without.
#[derive(Clone, Debug)]
pub struct Fence {
    /// How many of what.
    pub bounds: Bounds,
    /// What is wrong.
    pub flaw: Option<Flaw>,
}

/// What became of one proposal at one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Vote {
    /// Not granted yet, or of no use any more.
    #[default]
    Open,
    Granted,
    /// Sent before the guard's delay was over, or to the server before its restart.
    NeverCounts,
    /// Granted during the guard's delay.
    Withheld,
}

/// A node, and what it answered: sorted, as it does not matter which node is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    clock: u8,
    fence: u8,
    /// How long the fence is still kept.
    lifetime: u8,
    /// For how long its grants do not count.
    guarded: u8,
    votes: [Vote; MAX_PROPOSALS],
    /// What it counted to for each proposal, where nodes count.
    counts: [u8; MAX_PROPOSALS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Proposal {
    token: u8,
    /// The largest token that had been granted when it was sent.
    above: u8,
    granted: bool,
}

/// The nodes, and the proposals sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [Node; NODES],
    proposals: [Proposal; MAX_PROPOSALS],
    sent: u8,
    restarts: u8,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "shown in counterexamples")]
pub enum Step {
    /// Time passes for all nodes.
    Tick,
    /// A client sends the next proposal, with this token.
    Propose(u8),
    /// The client of this proposal has a quorum.
    Hold(usize),
    /// Something happens at a node.
    Node(usize, Event),
}

/// What happens at a node, by which proposal.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "shown in counterexamples")]
pub enum Event {
    /// It stores the proposal's token.
    Accept(usize),
    /// It refuses the proposal's token.
    Refuse(usize),
    /// Time passes for it alone.
    Tick,
    /// Its clock steps back.
    StepBack,
    /// It loses what it stored last, and is perhaps replaced by a replica whose clock is behind.
    Restart { fence: u8, behind: u8 },
}

impl Fence {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The script on the node.
    fn accepts(&self, node: &Node, token: u8) -> bool {
        let lowest = if self.is(Flaw::NoLowerBound) {
            NONE
        } else {
            node.clock - TOLERANCE - 1
        };
        let floor = if self.is(Flaw::LowerBoundOnlyWithoutFence) && node.fence != NONE {
            node.fence
        } else {
            node.fence.max(lowest)
        };
        let nudge = if self.is(Flaw::LargeNudge) {
            TOLERANCE
        } else {
            NUDGE
        };
        let ceiling = (node.clock + TOLERANCE).max(floor + nudge);
        match self.flaw {
            Some(Flaw::FenceUnchecked | Flaw::CountersPerNode) => true,
            Some(Flaw::EqualTokenAccepted) => floor <= token && token <= ceiling,
            Some(Flaw::NoUpperBound) => floor < token,
            _ => floor < token && token <= ceiling,
        }
    }

    fn lifetime(&self) -> u8 {
        match self.flaw {
            _ if !self.bounds.expiry => FOR_EVER,
            Some(Flaw::ShortLifetime) => 2 * TOLERANCE,
            _ => LIFETIME,
        }
    }

    fn guard(&self) -> u8 {
        if self.is(Flaw::GuardedForTtlOnly) {
            MAX_TTL
        } else {
            // The least that is more: three tolerances suffice where clocks are not farther apart than one.
            2 * TOLERANCE + self.bounds.behind + 1
        }
    }

    /// What a client may propose: anything that a node can ever accept; the rest is as good as lost.
    fn tokens(&self, state: &State) -> RangeInclusive<u8> {
        let slowest = match self.flaw {
            // Who counts proposes nothing.
            Some(Flaw::CountersPerNode) => return 1..=1,
            Some(Flaw::NoLowerBound | Flaw::LowerBoundOnlyWithoutFence | Flaw::ClockStepsBack) => {
                BEGINNING
            }
            _ => {
                let clocks = state.nodes.iter().map(|node| node.clock);
                clocks.min().unwrap_or(BEGINNING) - self.farthest_behind()
            }
        };
        slowest - TOLERANCE..=BEGINNING + self.bounds.time + TOLERANCE
    }

    fn farthest_behind(&self) -> u8 {
        self.bounds.behind + u8::from(self.is(Flaw::ReplicaFartherBehind))
    }

    fn propose(&self, state: &State, token: u8) -> State {
        let mut next = *state;
        let number = usize::from(state.sent);
        let granted = state.proposals.iter().filter(|it| it.granted);
        next.proposals[number] = Proposal {
            token,
            above: granted.map(|it| it.token).max().unwrap_or(NONE),
            granted: false,
        };
        next.sent += 1;
        if !self.is(Flaw::GuardedUntilReply) {
            for node in next.nodes.iter_mut().filter(|it| it.guarded > 0) {
                node.votes[number] = Vote::NeverCounts;
            }
        }
        next
    }

    /// The node after it accepted the proposal of this number.
    fn accepted(&self, mut node: Node, number: usize, proposal: Proposal) -> Node {
        if self.is(Flaw::CountersPerNode) {
            node.fence += 1;
            node.counts[number] = node.fence;
        } else {
            node.fence = proposal.token;
            node.lifetime = self.lifetime();
        }
        if node.votes[number] == Vote::Open && !proposal.granted {
            node.votes[number] = if node.guarded > 0 {
                Vote::Withheld
            } else {
                Vote::Granted
            };
        }
        node
    }

    /// Who has a quorum waits for votes no more.
    fn hold(&self, state: &State, number: usize) -> Option<State> {
        let granted = |node: &&Node| node.votes[number] == Vote::Granted;
        let voters = state.nodes.iter().filter(granted);
        if voters.clone().count() < quorum(NODES) {
            return None;
        }
        let mut next = *state;
        next.proposals[number].granted = true;
        if self.is(Flaw::CountersPerNode) {
            let counts = voters.map(|node| node.counts[number]);
            next.proposals[number].token = counts.max().unwrap_or(NONE);
        }
        let it = &mut next.proposals[number];
        if it.token > it.above {
            // This is settled; what is of no use any more is forgotten, so fewer states are different.
            it.above = NONE;
        }
        for node in &mut next.nodes {
            node.votes[number] = Vote::Open;
            node.counts[number] = NONE;
        }
        Some(next)
    }

    fn node_steps(&self, state: &State, index: usize, add: &mut impl FnMut(Step, State)) {
        let node = state.nodes[index];
        let mut to = |event, changed: Node| {
            let mut next = *state;
            next.nodes[index] = changed;
            next.restarts += u8::from(matches!(event, Event::Restart { .. }));
            add(Step::Node(index, event), next);
        };
        for number in 0..usize::from(state.sent) {
            let proposal = state.proposals[number];
            if self.is(Flaw::CountersPerNode) && node.votes[number] != Vote::Open {
                continue;
            }
            if self.accepts(&node, proposal.token) {
                to(Event::Accept(number), self.accepted(node, number, proposal));
            } else {
                to(Event::Refuse(number), node);
            }
        }
        let end = BEGINNING + self.bounds.time;
        if self.bounds.clocks == Clocks::Apart && node.clock < end {
            to(Event::Tick, node.after_a_tick());
        }
        if self.is(Flaw::ClockStepsBack) && node.fence == NONE && node.clock > BEGINNING {
            let clock = BEGINNING;
            to(Event::StepBack, Node { clock, ..node });
        }
        if state.restarts < self.bounds.restarts {
            for (fence, behind) in self.after_restart(state, node) {
                let mut restarted = node.restarted(state, self.guard(), fence);
                restarted.clock -= behind;
                to(Event::Restart { fence, behind }, restarted);
            }
        }
    }

    /// What a node may have after a restart: no fence or, from a snapshot or a replica, an older one; and a
    /// clock that is perhaps behind.
    fn after_restart(&self, state: &State, node: Node) -> impl Iterator<Item = (u8, u8)> {
        let sent = state.proposals.into_iter().take(usize::from(state.sent));
        let older = sent.map(|it| it.token).filter(move |&it| it < node.fence);
        let clocks = 0..=self.farthest_behind();
        let fences = iter::once(NONE).chain(older);
        fences.flat_map(move |fence| clocks.clone().map(move |behind| (fence, behind)))
    }
}

impl Node {
    fn after_a_tick(mut self) -> Self {
        self.clock += 1;
        if self.lifetime != FOR_EVER {
            self.lifetime = self.lifetime.saturating_sub(1);
        }
        if self.lifetime == 0 {
            self.fence = NONE;
        }
        self.guarded = self.guarded.saturating_sub(1);
        if self.guarded == 0 {
            for vote in self.votes.iter_mut().filter(|it| **it == Vote::Withheld) {
                *vote = Vote::Granted;
            }
        }
        self
    }

    /// What was sent before came over connections that are gone; what it granted before still counts.
    fn restarted(mut self, state: &State, guard: u8, fence: u8) -> Self {
        self.fence = fence;
        if fence == NONE {
            self.lifetime = 0;
        }
        self.guarded = guard;
        for number in 0..usize::from(state.sent) {
            if self.votes[number] != Vote::Granted && !state.proposals[number].granted {
                self.votes[number] = Vote::NeverCounts;
            }
        }
        self
    }
}

impl Model for Fence {
    type State = State;
    type Step = Step;

    fn landmarks(&self) -> Vec<&'static str> {
        let mut landmarks = vec![REFUSED, SECOND];
        if self.bounds.restarts > 0 {
            landmarks.push(RESTARTED);
        }
        landmarks
    }

    fn starts(&self) -> Vec<State> {
        let node = |behind| Node {
            clock: BEGINNING - behind,
            fence: NONE,
            lifetime: 0,
            guarded: 0,
            votes: [Vote::Open; MAX_PROPOSALS],
            counts: [NONE; MAX_PROPOSALS],
        };
        let behind = || 0..=self.farthest_behind();
        let clocks = behind().flat_map(|a| behind().map(move |b| [a, b, 0]));
        clocks
            .map(|clocks| State {
                nodes: clocks.map(node),
                proposals: [Proposal::default(); MAX_PROPOSALS],
                sent: 0,
                restarts: 0,
            })
            .collect()
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        let mut add = |step, mut next: State| {
            next.nodes.sort_unstable();
            steps.push((step, next));
        };
        if state.sent < self.bounds.proposals {
            for token in self.tokens(state) {
                add(Step::Propose(token), self.propose(state, token));
            }
        }
        for number in 0..usize::from(state.sent) {
            if !state.proposals[number].granted
                && let Some(next) = self.hold(state, number)
            {
                add(Step::Hold(number), next);
            }
        }
        for node in 0..NODES {
            self.node_steps(state, node, &mut add);
        }
        let end = BEGINNING + self.bounds.time;
        if self.bounds.clocks == Clocks::Together && state.nodes.iter().all(|it| it.clock < end) {
            let mut next = *state;
            next.nodes = next.nodes.map(Node::after_a_tick);
            add(Step::Tick, next);
        }
    }

    fn landmark(&self, before: &State, step: Step) -> Option<&'static str> {
        let granted = before.proposals.iter().any(|it| it.granted);
        match step {
            Step::Node(node, Event::Refuse(number))
                if before.proposals[number].token <= before.nodes[node].fence =>
            {
                Some(REFUSED)
            }
            Step::Hold(_) if granted => Some(SECOND),
            Step::Node(node, Event::Restart { .. }) if before.nodes[node].fence != NONE => {
                Some(RESTARTED)
            }
            _ => None,
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let granted = || state.proposals.iter().filter(|it| it.granted);
        if granted().any(|it| it.token <= it.above) {
            return Some("order: a token not above one granted before its request was sent");
        }
        let as_this = |token| granted().filter(|it| it.token == token).count();
        if granted().any(|it| as_this(it.token) > 1) {
            return Some("uniqueness: two grants have the same token");
        }
        None
    }
}

const REFUSED: &str = "refused by a fence";
const SECOND: &str = "granted after another";
const RESTARTED: &str = "lost a fence at a restart";
