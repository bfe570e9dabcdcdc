//! Who holds what until when, and whether that can be: the invariants.

use std::{fmt, time::Duration};

use redlock_core::{FencingToken, LostSignal};

use crate::{
    history::{History, Millis, Named},
    node::{Node, Set, Time, Value},
    shares::Tally,
};

/// A client's belief to hold something.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) client: usize,
    pub(crate) set: Set,
    pub(crate) value: Value,
    pub(crate) deadline: Time,
    ttl: Duration,
    token: Option<FencingToken>,
    /// Knows the deadline of a lock that is kept alive.
    signal: Option<LostSignal>,
    /// Released, given up, or past its deadline.
    ended: bool,
    uncovered: bool,
}

/// What has become of a value.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) client: usize,
    pub(crate) set: Set,
    /// Before which grants it was asked for.
    asked_after: usize,
    /// When it was given up or released; from then on no node may keep it.
    over: Option<Time>,
    pub(crate) granted: bool,
    /// Given away: who releases it by its value knows nothing of what is under way.
    pub(crate) leaked: bool,
    /// Nodes asked to acquire.
    asked: u8,
    /// Nodes on which the clean-up cannot be certain, as the network did too much to it.
    pub(crate) excused: u8,
    /// When each node last extended it.
    extended: [Option<Time>; 8],
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) history: History,
    pub(crate) holds: Vec<Hold>,
    active: Vec<usize>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) violations: Vec<String>,
    pub(crate) tally: Tally,
    pub(crate) quorum: usize,
    pub(crate) drift_factor: f64,
}

impl Ledger {
    pub(crate) fn new(history: History, quorum: usize, drift_factor: f64) -> Self {
        Self {
            history,
            holds: Vec::new(),
            active: Vec::new(),
            attempts: Vec::new(),
            violations: Vec::new(),
            tally: Tally::default(),
            quorum,
            drift_factor,
        }
    }

    pub(crate) fn violated(&mut self, now: Time, what: fmt::Arguments<'_>) {
        self.history.tell(now, format_args!("VIOLATION {what}"));
        self.violations
            .push(format!("at {} ms: {what}", Millis(now)));
    }

    /// A node is asked to acquire; true if this is the value's first appearance there.
    pub(crate) fn asks(&mut self, client: usize, node: usize, value: Value, set: Set, now: Time) {
        if value == self.attempts.len() {
            self.attempts.push(Attempt {
                client,
                set,
                asked_after: self.holds.len(),
                over: None,
                granted: false,
                leaked: false,
                asked: 0,
                excused: 0,
                extended: [None; 8],
            });
        }
        let attempt = &mut self.attempts[value];
        let again = attempt.asked & (1 << node) != 0;
        attempt.asked |= 1 << node;
        if again {
            // Healing.
            let carried = attempt.extended.iter().flatten().count();
            if carried < self.quorum {
                let value = Named(value);
                self.violated(
                    now,
                    format_args!(
                        "I3: {value} is set again on n{node}, though no quorum extended it"
                    ),
                );
            }
            self.tally.healed += 1;
        }
    }

    pub(crate) fn node_extended(&mut self, node: usize, value: Value, now: Time) {
        self.attempts[value].extended[node] = Some(now);
    }

    /// From now on no node may keep the value for long; true if that is new.
    pub(crate) fn is_over(&mut self, value: Value, now: Time) -> bool {
        let over = &mut self.attempts[value].over;
        let new = over.is_none();
        over.get_or_insert(now);
        new
    }

    pub(crate) fn was_over(&self, value: Value) -> bool {
        self.attempts[value].over.is_some()
    }

    /// A client believes to hold it from now on.
    pub(crate) fn granted(&mut self, hold: Hold, now: Time) -> usize {
        let Hold {
            client,
            set,
            value,
            deadline,
            ..
        } = hold;
        let number = self.holds.len();
        self.history.tell(
            now,
            format_args!(
                "c{client} HOLDS {set} with {} until {} (#{number})",
                Named(value),
                Millis(deadline)
            ),
        );
        self.tally.grants += 1;
        self.attempts[value].granted = true;
        if deadline <= now {
            self.violated(
                now,
                format_args!("T1: #{number} is over when it is granted"),
            );
        }
        self.refresh(now);
        for other in self.active.clone() {
            let other_hold = &self.holds[other];
            if other_hold.set.meets(set) {
                let (client, until) = (other_hold.client, Millis(other_hold.deadline));
                self.violated(
                    now,
                    format_args!(
                        "I1: #{number} is granted while c{client} has #{other} until {until}"
                    ),
                );
            }
        }
        self.holds.push(hold);
        self.active.push(number);
        number
    }

    /// I4: no token is given twice, and who was granted before another one asked has the smaller one.
    pub(crate) fn numbered(&mut self, number: usize, token: FencingToken, now: Time) {
        let Hold { set, value, .. } = self.holds[number];
        let asked_after = self.attempts[value].asked_after;
        self.history
            .tell(now, format_args!("#{number} has the token {token}"));
        for (other, hold) in self.holds[..number].iter().enumerate() {
            let Some(theirs) = hold.token.filter(|_| hold.set.meets(set)) else {
                continue;
            };
            if theirs == token || (other < asked_after && theirs > token) {
                let what = format!("I4: #{number} has the token {token}, #{other} had {theirs}");
                self.violated(now, format_args!("{what}"));
                break;
            }
        }
        self.holds[number].token = Some(token);
    }

    /// An extension was confirmed.
    pub(crate) fn extended(&mut self, number: usize, deadline: Time, ttl: Duration, now: Time) {
        self.refresh(now);
        self.history.tell(
            now,
            format_args!("#{number} EXTENDED until {}", Millis(deadline)),
        );
        self.tally.extensions += 1;
        if !self.is_held(number) {
            self.violated(now, format_args!("I3: #{number} was lost and is extended"));
        }
        self.rests_on_extensions(number, deadline, ttl, now);
        let hold = &mut self.holds[number];
        hold.deadline = deadline;
        hold.ttl = ttl;
    }

    /// A new deadline rests on a quorum of nodes that extended after the extension began.
    fn rests_on_extensions(&mut self, number: usize, deadline: Time, ttl: Duration, now: Time) {
        let hold = &self.holds[number];
        if deadline <= hold.deadline {
            return;
        }
        let valid_for = redlock_core::validity::validity(ttl, self.drift_factor);
        let began = deadline.saturating_sub(valid_for);
        let extended = self.attempts[hold.value].extended.iter().flatten();
        let count = extended.filter(|at| **at >= began).count();
        if count < self.quorum {
            let deadline = Millis(deadline);
            self.violated(
                now,
                format_args!("I3: #{number} is extended until {deadline} by {count} nodes alone"),
            );
        }
    }

    /// It is kept alive from now on; the signal knows its deadline.
    pub(crate) fn kept(&mut self, number: usize, signal: LostSignal) {
        self.holds[number].signal = Some(signal);
    }

    /// I3: of what is lost the signal never says anything else.
    pub(crate) fn stays_lost(&mut self, number: usize, now: Time) {
        let signal = self.holds[number].signal.as_ref();
        if signal.is_some_and(|signal| !signal.is_lost()) && !self.is_held(number) {
            self.violated(now, format_args!("I3: #{number} was lost and is kept"));
        }
    }

    /// The holder gives it up, or is told that it is lost.
    pub(crate) fn ends(&mut self, number: usize, how: &str, now: Time) {
        self.refresh(now);
        self.history.tell(now, format_args!("#{number} {how}"));
        self.holds[number].ended = true;
        self.active.retain(|it| *it != number);
    }

    pub(crate) fn is_held(&self, number: usize) -> bool {
        self.active.contains(&number)
    }

    pub(crate) fn holds_any(&self) -> bool {
        !self.active.is_empty()
    }

    /// Reads the deadlines of what is kept alive, and takes leave of what is past its own.
    fn refresh(&mut self, now: Time) {
        for number in self.active.clone() {
            let hold = &self.holds[number];
            if let Some(signal) = &hold.signal {
                let validity = signal.validity();
                let (deadline, ttl) = (now + validity, hold.ttl);
                if validity > Duration::ZERO && deadline > hold.deadline {
                    self.history.tell(
                        now,
                        format_args!("#{number} is KEPT until {}", Millis(deadline)),
                    );
                    self.tally.extensions += 1;
                    self.rests_on_extensions(number, deadline, ttl, now);
                }
                self.holds[number].deadline = deadline;
            }
        }
        let holds = &mut self.holds;
        self.active.retain(|number| {
            let hold = &mut holds[*number];
            hold.ended |= hold.deadline <= now;
            !hold.ended
        });
    }

    /// I2: whatever happens from now on, a quorum of nodes keeps the holder's key past its deadline.
    pub(crate) fn check(&mut self, nodes: &[Node], now: Time) {
        if self.active.is_empty() {
            return;
        }
        self.refresh(now);
        for number in self.active.clone() {
            let hold = &self.holds[number];
            if hold.uncovered {
                continue;
            }
            for resource in hold.set.iter() {
                let covered = covered_until(nodes, resource, hold.value, now, self.quorum);
                if covered < hold.deadline {
                    let (deadline, covered) = (Millis(hold.deadline), Millis(covered));
                    self.holds[number].uncovered = true;
                    self.violated(
                        now,
                        format_args!(
                            "I2: #{number} lasts until {deadline}, its quorum until {covered}"
                        ),
                    );
                    break;
                }
            }
        }
    }
}

impl Hold {
    pub(crate) const fn new(
        client: usize,
        set: Set,
        value: Value,
        deadline: Time,
        ttl: Duration,
    ) -> Self {
        Self {
            client,
            set,
            value,
            deadline,
            ttl,
            token: None,
            signal: None,
            ended: false,
            uncovered: false,
        }
    }
}

/// Until when a quorum of nodes is this value's, as things stand.
fn covered_until(nodes: &[Node], resource: usize, value: Value, now: Time, quorum: usize) -> Time {
    let mut until = [Time::ZERO; 8];
    for (slot, node) in until.iter_mut().zip(nodes) {
        *slot = node.covers_until(resource, value, now).unwrap_or(now);
    }
    until.sort_unstable();
    until[until.len() - quorum]
}

/// When a quorum of nodes will be free, as things stand.
pub(crate) fn free_at(nodes: &[Node], resource: usize, now: Time, quorum: usize) -> Time {
    let mut ends: Vec<Time> = nodes
        .iter()
        .map(|node| node.key(resource, now).map_or(now, |key| key.expires))
        .collect();
    ends.sort_unstable();
    ends[quorum - 1]
}
