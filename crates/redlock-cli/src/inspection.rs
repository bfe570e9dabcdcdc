//! What the nodes say of a resource, for people and for programs.

use std::{io, time::Duration};

use humantime::format_duration;
use redlock::{Error, Holder, Inspection, NodeInspection, RawValue, Redlock, Resources, Verdict};
use serde::Serialize;

use crate::{
    colour::{Colour, bold},
    exit::{Code, Failure},
    table::{aligned, visible},
};

/// A resource, and what the nodes say of it.
pub(crate) struct Inspected {
    resource: String,
    inspection: Inspection,
}

/// What a program reads; every field is always there. The README tells what they mean.
#[derive(Serialize)]
struct Report<'a> {
    resource: &'a str,
    verdict: &'static str,
    value: Option<String>,
    remaining_ms: Option<u64>,
    nodes: Vec<NodeReport<'a>>,
}

#[derive(Serialize)]
struct NodeReport<'a> {
    node: &'a str,
    state: &'static str,
    value: Option<String>,
    remaining_ms: Option<u64>,
    error: Option<String>,
    latency_ms: f64,
}

/// What has to differ for it to be news: neither the time that passes nor how long an answer took.
#[derive(PartialEq, Eq)]
pub(crate) struct News(&'static str, Vec<(&'static str, Option<RawValue>)>);

/// Asks the nodes for all of them at once.
pub(crate) async fn inspect(
    redlock: &Redlock,
    resources: &Resources,
) -> Result<Vec<Inspected>, Failure> {
    let asked = resources.iter().map(|name| {
        let (redlock, name) = (redlock.clone(), name.clone());
        tokio::spawn(async move { redlock.inspect(name).await })
    });
    let asked: Vec<_> = asked.collect();
    let mut inspected = Vec::new();
    for (resource, answer) in resources.iter().zip(asked) {
        let told = answer
            .await
            .map_err(|error| Failure::new(Code::System, error))?;
        inspected.push(Inspected {
            resource: resource.clone(),
            inspection: told.map_err(|error: Error| Failure::lock(resources, &error))?,
        });
    }
    Ok(inspected)
}

impl Inspected {
    pub(crate) const fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The verdict, as a text that ends a sentence.
    pub(crate) fn verdict(&self) -> String {
        match self.inspection.verdict() {
            Verdict::HeldBy(holder) => held_by(holder),
            other => other.to_string(),
        }
    }

    /// The verdict and a table of the nodes.
    pub(crate) fn table(&self) -> String {
        let colour = match self.inspection.verdict() {
            Verdict::Free => Colour::Green,
            Verdict::HeldBy(_) => Colour::Yellow,
            _ => Colour::Red,
        };
        let verdict = bold(&self.verdict(), colour, &io::stdout());
        let heading = ["NODE", "LATENCY", "REMAINING", "STATE"].map(str::to_owned);
        let rows: Vec<_> = [heading]
            .into_iter()
            .chain(self.inspection.iter().map(row))
            .collect();
        let table = aligned(&rows).join("\n  ");
        format!("{:?}: {verdict}\n  {table}\n", self.resource)
    }

    /// All of it in one line.
    pub(crate) fn line(&self) -> String {
        let nodes = self.inspection.iter().map(|node| {
            let [name, _, remaining, state] = row(node);
            match node.answer() {
                Ok(Some(_)) => format!("; {name} {state} for {remaining}"),
                _ => format!("; {name} {state}"),
            }
        });
        let nodes: String = nodes.collect();
        visible(format!("{:?}: {}{nodes}", self.resource, self.verdict())) + "\n"
    }

    /// One JSON object in a line.
    pub(crate) fn json(&self) -> Result<String, Failure> {
        let (value, remaining_ms) = match self.inspection.verdict() {
            Verdict::HeldBy(holder) => told(Some(holder)),
            _ => told(None),
        };
        let report = Report {
            resource: &self.resource,
            verdict: verdict_name(self.inspection.verdict()),
            value,
            remaining_ms,
            nodes: self.inspection.iter().map(node_report).collect(),
        };
        to_json(&report)
    }

    pub(crate) fn news(&self) -> News {
        let nodes = self.inspection.iter().map(|node| {
            let holder = node.answer().ok().flatten();
            (state_name(node), holder.map(|holder| holder.value.clone()))
        });
        News(verdict_name(self.inspection.verdict()), nodes.collect())
    }

    /// Fails if those nodes would decide that gave no answer.
    pub(crate) fn known(&self) -> Result<(), Failure> {
        match self.inspection.verdict() {
            Verdict::Unknown => {
                let message = format!("{:?}: too few nodes answered", self.resource);
                Err(Failure::new(Code::Unavailable, message))
            }
            _ => Ok(()),
        }
    }
}

/// A line of JSON.
pub(crate) fn to_json(report: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(report);
    let json = json.map_err(|error| Failure::new(Code::System, error))?;
    Ok(json + "\n")
}

/// As exact as microseconds are.
pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Who holds it, without the whole value.
pub(crate) fn held_by(holder: &Holder) -> String {
    let (value, remaining) = (&holder.value, remaining(holder));
    match holder.remaining {
        Some(_) => format!("held by {value} for another {remaining}"),
        None => format!("held by {value} without end"),
    }
}

fn remaining(holder: &Holder) -> String {
    match holder.remaining {
        None => "ever".to_owned(),
        Some(short) if short < Duration::from_secs(60) => format!("{short:.1?}"),
        Some(long) => format_duration(Duration::from_secs(long.as_secs())).to_string(),
    }
}

fn row(node: &NodeInspection) -> [String; 4] {
    let (remaining, state) = match node.answer() {
        Ok(Some(holder)) => (remaining(holder), format!("held by {}", holder.value)),
        Ok(None) => ("-".to_owned(), "free".to_owned()),
        Err(error) => ("-".to_owned(), error.to_string()),
    };
    let took = format!("{:.1?}", node.took());
    [node.node().to_owned(), took, remaining, state]
}

fn node_report(node: &NodeInspection) -> NodeReport<'_> {
    let (value, remaining_ms) = told(node.answer().ok().flatten());
    NodeReport {
        node: node.node(),
        state: state_name(node),
        value,
        remaining_ms,
        error: node.answer().err().map(ToString::to_string),
        latency_ms: millis(node.took()),
    }
}

fn told(holder: Option<&Holder>) -> (Option<String>, Option<u64>) {
    let remaining = holder.and_then(|holder| holder.remaining);
    let millis = remaining.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    (holder.map(|holder| holder.value.to_string()), millis)
}

const fn state_name(node: &NodeInspection) -> &'static str {
    match node.answer() {
        Ok(Some(_)) => "held",
        Ok(None) => "free",
        Err(_) => "error",
    }
}

const fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Free => "free",
        Verdict::HeldBy(_) => "held",
        Verdict::Split => "split",
        _ => "unknown",
    }
}
