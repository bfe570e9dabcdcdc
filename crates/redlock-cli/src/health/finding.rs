//! What was found, and what to do about it.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Ok,
    Warning,
    Problem,
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// `None` if it is about all of them.
    pub(crate) node: Option<String>,
    /// What was looked at, in one word.
    pub(crate) check: &'static str,
    pub(crate) found: String,
    pub(crate) advice: Option<String>,
}

/// What is found at one place.
pub(super) struct Notes {
    node: Option<String>,
    findings: Vec<Finding>,
}

impl Notes {
    pub(super) const fn of(node: Option<String>) -> Self {
        Self {
            node,
            findings: Vec::new(),
        }
    }

    pub(super) fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(Severity::Ok, check, found.into(), None);
    }

    pub(super) fn warning(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Severity::Warning, check, found.into(), Some(advice.into()));
    }

    pub(super) fn problem(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Severity::Problem, check, found.into(), Some(advice.into()));
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        check: &'static str,
        found: String,
        advice: Option<String>,
    ) {
        self.findings.push(Finding {
            severity,
            node: self.node.clone(),
            check,
            found,
            advice,
        });
    }

    pub(super) fn take(self) -> Vec<Finding> {
        self.findings
    }
}
