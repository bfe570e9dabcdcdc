//! Who holds a resource, after what each node said? Pure: no clock, no I/O.

use std::{cmp::Reverse, collections::HashMap, fmt, time::Duration};

use crate::{Holder, RawValue, quorum::quorum};

/// What the answers of all nodes to "who holds it?" come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// A quorum of nodes is free: whoever asks next can have it.
    Free,
    /// A quorum of nodes carries this value, and does so for the remaining time if nobody releases or
    /// extends it: after that the first node is gone without which there is no quorum.
    HeldBy(Holder),
    /// No value is on a quorum of nodes, nor is a quorum free: nobody holds it, and nobody can take it before
    /// something of it ends. So it is while several compete, and after releases that did not reach all nodes.
    Split,
    /// The nodes that gave no answer would decide.
    Unknown,
}

impl Verdict {
    /// The verdict on these answers, one of each node; `None` of a node that gave none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use redlock_core::{Holder, Verdict};
    ///
    /// let holder = |seconds| Holder::new("a value", Duration::from_secs(seconds));
    /// let (two, nine) = (holder(2), holder(9));
    /// let verdict = Verdict::of([Some(Some(&two)), None, Some(Some(&nine))]);
    /// assert_eq!(verdict, Verdict::HeldBy(two));
    /// ```
    pub fn of<'a>(answers: impl IntoIterator<Item = Option<Option<&'a Holder>>>) -> Self {
        let (mut nodes, mut free, mut silent) = (0, 0, 0);
        let mut held: HashMap<&RawValue, Vec<Option<Duration>>> = HashMap::new();
        for answer in answers {
            nodes += 1;
            match answer {
                None => silent += 1,
                Some(None) => free += 1,
                Some(Some(Holder { value, remaining })) => {
                    held.entry(value).or_default().push(*remaining);
                }
            }
        }
        let needed = quorum(nodes);
        if free >= needed {
            return Self::Free;
        }
        let largest = held.into_iter().max_by_key(|(_, nodes)| nodes.len());
        let holding = largest.as_ref().map_or(0, |(_, nodes)| nodes.len());
        match largest {
            Some((value, mut remaining)) if holding >= needed => {
                // What has no end lasts longest.
                remaining.sort_by_key(|it| Reverse(it.unwrap_or(Duration::MAX)));
                Self::HeldBy(Holder::new(value.clone(), remaining[needed - 1]))
            }
            _ if free.max(holding) + silent >= needed => Self::Unknown,
            _ => Self::Split,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::HeldBy(holder) => holder.fmt(f),
            Self::Split => f.write_str("split: neither held nor free on a quorum of nodes"),
            Self::Unknown => f.write_str("unknown: too few nodes answered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = Option<Option<Holder>>;

    fn verdict(answers: &[Answer]) -> Verdict {
        Verdict::of(
            answers
                .iter()
                .map(|answer| answer.as_ref().map(Option::as_ref)),
        )
    }

    fn holder(value: &str, seconds: u64) -> Holder {
        Holder::new(value, Duration::from_secs(seconds))
    }

    fn on(answers: &[Answer], wanted: impl Fn(&Answer) -> bool) -> usize {
        answers.iter().filter(|answer| wanted(answer)).count()
    }

    /// What it must be, told by the words of the documentation.
    fn expected(answers: &[Answer]) -> Verdict {
        let majority = |count: usize| 2 * count > answers.len();
        let free = on(answers, |answer| *answer == Some(None));
        let silent = on(answers, Option::is_none);
        if majority(free) {
            return Verdict::Free;
        }
        let mut decidable = majority(free + silent) || majority(silent);
        for value in ["a", "b"].map(RawValue::from) {
            let carries = |answer: &Answer| matches!(answer, Some(Some(it)) if it.value == value);
            let carrying = on(answers, carries);
            if majority(carrying) {
                let lasts = |seconds: &u64| {
                    let least = Some(Duration::from_secs(*seconds));
                    majority(on(
                        answers,
                        |answer| matches!(answer, Some(Some(it)) if it.value == value && it.remaining >= least),
                    ))
                };
                let longest = (1..=9).rev().find(lasts).expect("all last a second");
                return Verdict::HeldBy(Holder::new(value, Duration::from_secs(longest)));
            }
            decidable |= majority(carrying + silent);
        }
        if decidable {
            Verdict::Unknown
        } else {
            Verdict::Split
        }
    }

    /// Walks everything that `more` nodes can answer in addition.
    fn walk(more: usize, answers: &mut Vec<Answer>) {
        if more == 0 {
            assert_eq!(verdict(answers), expected(answers), "{answers:?}");
            return;
        }
        let seconds = u64::try_from(more).unwrap();
        let holders = [holder("a", seconds), holder("b", 2)];
        let held = holders.map(|holder| Some(Some(holder)));
        for answer in [None, Some(None)].into_iter().chain(held) {
            answers.push(answer);
            walk(more - 1, answers);
            answers.pop();
        }
    }

    #[test]
    fn whatever_the_nodes_answer_the_verdict_is_what_a_quorum_says() {
        for nodes in 1..=7 {
            walk(nodes, &mut Vec::new());
        }
    }

    #[test]
    fn what_never_ends_outlasts_everything() {
        let for_ever = Holder::new("a", None);
        let held = |holders: [&Holder; 3]| Verdict::of(holders.map(|it| Some(Some(it))));
        let [short, long] = [holder("a", 3), holder("a", 5)];
        let verdict = held([&short, &for_ever, &long]);
        assert_eq!(verdict, Verdict::HeldBy(long.clone()));
        let verdict = held([&for_ever, &for_ever, &long]);
        assert_eq!(verdict, Verdict::HeldBy(for_ever));
    }
}
