//! Messages under way, in the order of arriving and not of being sent.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use redlock_core::{NextToken, Proposal};
use tokio::sync::oneshot;

use crate::{
    node::{Set, Time, Value},
    plan::{Memory, Network},
    rng::Rng,
};

/// What is asked of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Acquire(Duration),
    Fenced(Duration, Proposal),
    Extend(Duration),
    Release,
    /// Which process are you, and since when?
    Examine,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Granted,
    Refused,
    /// The fencing token is refused, this one would do.
    TokenRefused(NextToken),
    /// The process, and how long it has been known by the node's clock.
    Process(u32, Duration),
    /// The connection broke; whether the request arrived is another question.
    Broken,
    /// There is nobody: it did not arrive.
    NobodyThere,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) node: usize,
    pub(crate) set: Set,
    pub(crate) value: Value,
    pub(crate) ask: Ask,
    /// The process to which the connection was made, if that was found out.
    pub(crate) incarnation: Option<u32>,
    /// Who waits; nobody does for a message that the network repeats.
    pub(crate) reply: Option<oneshot::Sender<Answer>>,
}

#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) to: oneshot::Sender<Answer>,
    pub(crate) node: usize,
    pub(crate) value: Value,
    pub(crate) answer: Answer,
}

#[derive(Debug)]
pub(crate) enum Event {
    Arrives(Request),
    Answered(Answered),
    Crashes(usize, Memory),
    Restarts(usize),
    Snapshot(usize),
    /// Nothing of this value may be left on this node.
    IsClean(usize, Value),
}

/// What the network does to one message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    After(Duration),
    Lost,
    /// Lost, and the sender is told so.
    Breaks(Duration),
}

impl Network {
    /// `aim` is how long it is until something interesting happens at the nodes.
    pub(crate) fn fate(&self, rng: &mut Rng, aim: Option<Duration>) -> Fate {
        if rng.percent(self.lost) {
            return match rng.below(3) {
                0 => Fate::Breaks(rng.millis(0, self.delay)),
                _ => Fate::Lost,
            };
        }
        if let Some(aim) = aim.filter(|_| rng.percent(self.aimed)) {
            return Fate::After((aim + rng.millis(0, 4)).saturating_sub(Duration::from_millis(2)));
        }
        let (share, slow) = self.slow;
        let most = if rng.percent(share) { slow } else { self.delay };
        Fate::After(rng.millis(0, most))
    }
}

#[derive(Debug)]
struct Scheduled {
    /// What is due at the same time comes in any order.
    at: (Time, u64),
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue(BinaryHeap<Reverse<Scheduled>>);

impl Queue {
    pub(crate) fn push(&mut self, at: Time, order: u64, event: Event) {
        let at = (at, order);
        self.0.push(Reverse(Scheduled { at, event }));
    }

    /// When the next event is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse(next)| next.at.0)
    }

    pub(crate) fn due(&mut self, now: Time) -> Option<Event> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(next)| next.event)
    }
}
