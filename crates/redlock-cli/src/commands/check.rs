//! `redlock check`.

use std::io;

use clap::Args;
use redlock::Redlock;
use serde::Serialize;

use crate::{
    cli::Global,
    colour::{Colour, bold},
    commands::print,
    config,
    exit::{Code, Failure},
    health::{Finding, Severity, examine},
    inspection::to_json,
    session,
    table::{aligned, visible},
};

const HELP: &str = "\
Asks every server for its version, role, settings, clock and commands, and says what to do about what is
not as locks need it. Takes, extends and releases a lock of its own on each node; changes nothing else.
What the user may not look at is told, and is no fault.
The exit code is 0 if all is fine, 1 for warnings and 2 for problems, as monitoring wants it.

Example:
  redlock check
  redlock check --json | jq -r '.findings[] | select(.severity != \"ok\") | .found'";

/// Where the second column of the table begins.
const INDENT: &str = "         -> ";

/// Tell how the deployment is, and what to do about it
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Check {
    /// One JSON object
    #[arg(long)]
    json: bool,

    /// Only warnings and problems
    #[arg(short, long)]
    quiet: bool,

    /// What the names of its own locks begin with
    #[arg(long, value_name = "PREFIX", default_value = "redlock-check:")]
    probe_prefix: String,
}

/// What a program reads; every field is always there. The README tells what they mean.
#[derive(Serialize)]
struct Report<'a> {
    status: Severity,
    findings: &'a [Finding],
}

impl Check {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let nodes = config::read(global)?.nodes;
        // Refuses what no other command would work with.
        let backends = nodes.iter().map(|node| node.backend.clone());
        drop(Redlock::builder(backends).build()?);
        let mut findings = session::block_on(examine(nodes, &self.probe_prefix))??;
        let worst = findings.iter().map(|finding| finding.severity).max();
        let status = worst.unwrap_or(Severity::Ok);
        if self.quiet {
            findings.retain(|finding| finding.severity > Severity::Ok);
        }
        let text = if self.json {
            let findings = &findings;
            to_json(&Report { status, findings })?
        } else {
            table(&findings)
        };
        print(text.as_bytes())?;
        Ok(match status {
            Severity::Ok => 0,
            Severity::Warning => Code::Warnings as u8,
            Severity::Problem => Code::Problems as u8,
        })
    }
}

/// A line for each, and one for what to do.
fn table(findings: &[Finding]) -> String {
    let rows = findings.iter().map(|finding| {
        let node = finding.node.as_deref().unwrap_or("all");
        let (severity, _) = shown(finding.severity);
        [severity, node, finding.check, &finding.found].map(str::to_owned)
    });
    let lines = aligned(&rows.collect::<Vec<_>>());
    let mut text = String::new();
    for (finding, line) in findings.iter().zip(lines) {
        let (severity, colour) = shown(finding.severity);
        let rest = line.strip_prefix(severity).unwrap_or_default();
        text += &bold(severity, colour, &io::stdout());
        text += rest;
        text += "\n";
        if let Some(advice) = &finding.advice {
            text += &[INDENT, &visible(advice), "\n"].concat();
        }
    }
    text
}

const fn shown(severity: Severity) -> (&'static str, Colour) {
    match severity {
        Severity::Ok => ("ok", Colour::Green),
        Severity::Warning => ("warning", Colour::Yellow),
        Severity::Problem => ("problem", Colour::Red),
    }
}
