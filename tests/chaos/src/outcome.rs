//! What came of a phase.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use redlock_test::Violation;

use crate::{Phase, log::Log, order::Disorder, record::Record};

/// Of how many violations everything is told.
const TOLD: usize = 5;
/// How much of the log is told with a violation, on either side.
const AROUND: Duration = Duration::from_secs(4);

/// What came of a phase.
#[derive(Debug)]
pub struct Outcome {
    pub(crate) phase: Phase,
    pub(crate) time: Duration,
    /// Every time that two held the same at once.
    pub violations: Vec<Violation>,
    /// Every fencing token that did not rise.
    pub disorders: Vec<Disorder>,
    pub(crate) record: Record,
    pub(crate) log: Log,
}

impl Outcome {
    /// How many locks were granted.
    #[must_use]
    pub fn grants(&self) -> usize {
        self.record.claims().count()
    }

    /// How many of them had a fencing token.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let tokens = self.record.claims().filter(|claim| claim.token.is_some());
        tokens.count()
    }

    /// In what it differs from what it has to be.
    #[must_use]
    pub fn unexpected(&self) -> Option<String> {
        let (overlaps, disorders) = (self.violations.len(), self.disorders.len());
        let safe = overlaps == 0 && disorders == 0;
        let grants = self.grants();
        if Duration::from_secs(grants as u64) < self.time / 2 {
            return Some(format!("{grants} grants in {:?} prove nothing", self.time));
        }
        match self.phase {
            Phase::NoGuard if overlaps == 0 => {
                Some("forgetful servers and no overlap: who would notice one?".to_owned())
            }
            Phase::Guard | Phase::Fencing if !safe => Some(format!(
                "{overlaps} overlaps, {disorders} tokens out of order"
            )),
            Phase::Fencing if self.tokens() == 0 => Some("there was no token".to_owned()),
            _ => None,
        }
    }

    /// The first violations, with the faults around each.
    #[must_use]
    pub fn evidence(&self) -> String {
        let mut told = String::new();
        for violation in self.violations.iter().take(TOLD) {
            let faults = self.log.around(violation.second.granted, AROUND);
            let _ = writeln!(told, "{violation}\nfaults around it:\n{faults}");
        }
        for disorder in self.disorders.iter().take(TOLD) {
            let faults = self.log.around(disorder.second.asked, AROUND);
            let _ = writeln!(told, "{disorder}\nfaults around it:\n{faults}");
        }
        told
    }
}

/// What happened, a column for each phase.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut table = String::new();
    let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
        let _ = write!(table, "{name:<32}");
        for outcome in outcomes {
            let _ = write!(table, "{:>15}", cell(outcome));
        }
        table.push('\n');
    };
    row("", &|it| it.phase.name().to_owned());
    row("seconds", &|it| it.time.as_secs().to_string());
    let counts: Vec<_> = outcomes.iter().map(|it| it.log.counts()).collect();
    let kinds: BTreeSet<_> = counts.iter().flat_map(|counts| counts.keys()).collect();
    for kind in kinds {
        let of = |it: &Outcome| it.log.counts().get(kind).copied().unwrap_or(0);
        row(kind, &|it| of(it).to_string());
    }
    row("grants", &|it| it.grants().to_string());
    row("contended", &|it| it.record.contended.to_string());
    row("no quorum", &|it| it.record.failed.to_string());
    row("extensions", &|it| it.record.extended.to_string());
    row("lost", &|it| it.record.lost.to_string());
    row("overlaps", &|it| it.violations.len().to_string());
    row("fencing tokens", &|it| it.tokens().to_string());
    row("tokens out of order", &|it| it.disorders.len().to_string());
    table
}

impl Phase {
    /// What it is called in a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guard => "with guard",
            Self::NoGuard => "without guard",
            Self::Fencing => "fencing",
        }
    }
}
