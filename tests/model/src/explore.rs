//! The explorer: visits every state that a model can reach, nearest first.

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// What can happen, as states and the steps between them.
pub trait Model {
    /// Everything that the future depends on, and small: millions are kept.
    type State: Copy + Eq + Hash;
    /// What leads from one state to the next; shown in counterexamples.
    type Step: Copy + Debug;

    /// Where everything begins.
    fn starts(&self) -> Vec<Self::State>;

    /// Adds every step that is possible in this state, and where it leads.
    fn steps(&self, state: &Self::State, steps: &mut Vec<(Self::Step, Self::State)>);

    /// What must happen somewhere, or the exploration proves nothing.
    fn landmarks(&self) -> Vec<&'static str>;

    /// The landmark that this step is, if it is one.
    fn landmark(&self, before: &Self::State, step: Self::Step) -> Option<&'static str>;

    /// The invariant that this state breaks, if it breaks one.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
}

/// What an exploration came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many different states were reached.
    pub states: usize,
    /// How many steps the farthest of them is away.
    pub depth: usize,
    /// The landmarks that were never seen.
    pub missed: Vec<&'static str>,
    /// How the first state was reached that breaks an invariant, if there is one.
    pub counterexample: Option<Counterexample>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, depth, .. } = self;
        write!(f, "{states:>9} states, depth {depth:>2}: ")?;
        match &self.counterexample {
            None => f.write_str("holds"),
            Some(it) => write!(f, "broken in {} steps: {}", it.steps.len(), it.broken),
        }
    }
}

/// A shortest way into a state that breaks an invariant.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The invariant.
    pub broken: &'static str,
    /// The steps from the start. The nodes are sorted after each, so the same node may change its number.
    pub steps: Vec<String>,
}

/// Visits every state, or stops at the first that breaks an invariant.
#[must_use]
pub fn explore<M: Model>(model: &M) -> Report {
    let mut reached_from = Predecessors::<M::State>::default();
    let mut seen: Vec<&'static str> = Vec::new();
    let mut found = None;
    let (mut depth, mut level, mut next_level) = (0, model.starts(), Vec::new());
    reached_from.extend(level.iter().map(|&start| (start, start)));
    let mut steps = Vec::new();

    'levels: while found.is_none() {
        for before in level.drain(..) {
            steps.clear();
            model.steps(&before, &mut steps);
            for &(step, after) in &steps {
                if let Some(landmark) = model.landmark(&before, step)
                    && !seen.contains(&landmark)
                {
                    seen.push(landmark);
                }
                if reached_from.contains_key(&after) {
                    continue;
                }
                reached_from.insert(after, before);
                if let Some(broken) = model.broken(&after) {
                    found = Some((broken, after));
                    break 'levels;
                }
                next_level.push(after);
            }
        }
        if next_level.is_empty() {
            break;
        }
        depth += 1;
        std::mem::swap(&mut level, &mut next_level);
    }

    Report {
        states: reached_from.len(),
        depth,
        missed: missed(model.landmarks(), &seen),
        counterexample: found.map(|(broken, end)| Counterexample {
            broken,
            steps: way(model, &reached_from, end),
        }),
    }
}

fn missed(mut landmarks: Vec<&'static str>, seen: &[&str]) -> Vec<&'static str> {
    landmarks.retain(|landmark| !seen.contains(landmark));
    landmarks
}

/// The steps from the start to `end`: those that lead from each state's predecessor to it.
fn way<M: Model>(
    model: &M,
    reached_from: &Predecessors<M::State>,
    mut end: M::State,
) -> Vec<String> {
    let mut way = Vec::new();
    let mut steps = Vec::new();
    while reached_from[&end] != end {
        let before = reached_from[&end];
        steps.clear();
        model.steps(&before, &mut steps);
        let leads_on = |(_, after): &&(M::Step, M::State)| *after == end;
        let (step, _) = steps.iter().find(leads_on).expect("it was reached so");
        way.push(format!("{step:?}"));
        end = before;
    }
    way.reverse();
    way
}

/// Each state and the one from which it was first reached; a start from itself.
type Predecessors<S> = HashMap<S, S, BuildHasherDefault<Multiplied>>;

/// The states are our own, so a hash need not withstand an adversary, but it has to be fast.
#[derive(Default)]
struct Multiplied(u64);

impl Hasher for Multiplied {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
