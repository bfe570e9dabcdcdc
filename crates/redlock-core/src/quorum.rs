//! When is a round of votes decided? Pure: no clock, no I/O.

/// The smallest majority of `nodes` independent nodes.
#[must_use]
pub const fn quorum(nodes: usize) -> usize {
    nodes / 2 + 1
}

/// What a round of votes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A quorum of nodes granted.
    Granted,
    /// So many nodes refused that no quorum can grant, whatever the others say.
    Refused,
    /// So many nodes failed that no quorum can grant, whatever the others say.
    Unreachable,
    /// No quorum can grant any more, but neither the refusals nor the failures alone forbid it.
    Mixed,
}

/// The votes counted so far in one round over a fixed number of nodes.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    nodes: usize,
    granted: usize,
    refused: usize,
    failed: usize,
}

impl Tally {
    /// Nothing counted yet of `nodes` votes.
    #[must_use]
    pub const fn new(nodes: usize) -> Self {
        Self {
            nodes,
            granted: 0,
            refused: 0,
            failed: 0,
        }
    }

    /// Counts a node that granted.
    pub const fn grant(&mut self) {
        self.granted += 1;
    }

    /// Counts a node that refused.
    pub const fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Counts a node whose answer is unknown.
    pub const fn fail(&mut self) {
        self.failed += 1;
    }

    /// The outcome, as soon as no further vote can change it.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        let needed = quorum(self.nodes);
        let forbids = self.nodes - needed + 1;
        if self.granted >= needed {
            Some(Outcome::Granted)
        } else if self.refused + self.failed < forbids {
            None
        } else if self.refused >= forbids {
            Some(Outcome::Refused)
        } else if self.failed >= forbids {
            Some(Outcome::Unreachable)
        } else {
            Some(Outcome::Mixed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Ballot {
        Grant,
        Refuse,
        Fail,
    }

    const BALLOTS: [Ballot; 3] = [Ballot::Grant, Ballot::Refuse, Ballot::Fail];

    fn count(tally: &mut Tally, ballot: Ballot) {
        match ballot {
            Ballot::Grant => tally.grant(),
            Ballot::Refuse => tally.refuse(),
            Ballot::Fail => tally.fail(),
        }
    }

    /// Walks every order of votes; `votes` are those cast so far.
    fn walk(nodes: usize, tally: Tally, votes: &mut Vec<Ballot>, seen: &mut usize) {
        let of = |wanted: fn(&Ballot) -> bool| votes.iter().filter(|b| wanted(b)).count();
        let granted = of(|b| matches!(b, Ballot::Grant));
        let refused = of(|b| matches!(b, Ballot::Refuse));
        let failed = of(|b| matches!(b, Ballot::Fail));
        let pending = nodes - votes.len();
        let majority = |n: usize| 2 * n > nodes;

        let sure = majority(granted);
        let hopeless = !majority(granted + pending);
        match tally.outcome() {
            None => assert!(!sure && !hopeless, "decidable but undecided"),
            Some(Outcome::Granted) => assert!(sure),
            Some(Outcome::Refused) => assert!(hopeless && !majority(nodes - refused)),
            Some(Outcome::Unreachable) => {
                assert!(hopeless && !majority(nodes - failed) && majority(nodes - refused));
            }
            Some(Outcome::Mixed) => {
                assert!(hopeless && majority(nodes - failed) && majority(nodes - refused));
            }
        }
        *seen += 1;
        if pending > 0 {
            for ballot in BALLOTS {
                let mut next = tally;
                count(&mut next, ballot);
                if let Some(Outcome::Granted) = tally.outcome() {
                    assert_eq!(next.outcome(), tally.outcome(), "a grant was taken back");
                } else if tally.outcome().is_some() {
                    assert_ne!(next.outcome(), Some(Outcome::Granted));
                }
                votes.push(ballot);
                walk(nodes, next, votes, seen);
                votes.pop();
            }
        }
    }

    #[test]
    fn every_order_of_votes_decides_as_early_as_it_can_and_never_wrongly() {
        for nodes in 1..=9 {
            let mut seen = 0;
            walk(nodes, Tally::new(nodes), &mut Vec::new(), &mut seen);
            assert_eq!(
                seen,
                (3_usize.pow(u32::try_from(nodes).unwrap() + 1) - 1) / 2
            );
        }
    }

    #[test]
    fn a_tie_is_decided_with_two_nodes_and_with_four() {
        for nodes in [2, 4] {
            let mut tally = Tally::new(nodes);
            for _ in 0..nodes / 2 {
                tally.grant();
                tally.refuse();
            }
            assert_eq!(tally.outcome(), Some(Outcome::Refused));
        }
    }

    #[test]
    fn two_quorums_always_share_a_node() {
        for nodes in 1..1000 {
            assert!(2 * quorum(nodes) > nodes);
            assert!(2 * (quorum(nodes) - 1) <= nodes);
        }
    }
}
