//! How the deployment is: what its servers say of themselves, and what follows from it for locks.

mod clocks;
mod finding;
mod probe;
mod sentinels;
mod server;

use std::collections::HashMap;

use redlock::redis_rs::{moved_to, redis::ConnectionInfo};
use tokio::{task::JoinHandle, time::Instant};

pub(crate) use self::finding::{Finding, Severity};
use self::{
    finding::Notes,
    server::{Place, Seen},
};
use crate::{
    exit::{Code, Failure},
    node::{Node, Servers},
};

/// Everything there is to say of these nodes, in their order.
///
/// Locks that try whether a node works are named with this prefix.
pub(crate) async fn examine(nodes: Vec<Node>, prefix: &str) -> Result<Vec<Finding>, Failure> {
    let start = Instant::now();
    let mut findings = number(nodes.len());
    let looks: Vec<_> = nodes
        .into_iter()
        .enumerate()
        .map(|(index, node)| tokio::spawn(look(index, node, prefix.to_owned(), start)))
        .collect();
    let seen = all(looks).await?;
    findings.extend(twice(&seen));
    let servers = || seen.iter().flatten();
    let readings = servers().filter_map(|server| Some((server.name.clone(), server.clock?)));
    findings.extend(clocks::compare(&readings.collect::<Vec<_>>()));
    findings.extend(seen.into_iter().flatten().flat_map(|server| server.notes));
    Ok(findings)
}

/// What is seen of the servers behind a node.
async fn look(index: usize, node: Node, prefix: String, start: Instant) -> Vec<Seen> {
    let name = node.backend.name().map(Into::into);
    let name: String = name.unwrap_or_else(|| format!("node {}", index + 1));
    let mut seen = match node.servers {
        Servers::One(info) => vec![server::look(name.clone(), info, Place::Alone, start).await],
        Servers::Members(members) => {
            let looks: Vec<_> = members
                .into_iter()
                .map(|info| {
                    let name = format!("{name}: {}", address(&info));
                    tokio::spawn(server::look(name, info, Place::Member, start))
                })
                .collect();
            all(looks).await.unwrap_or_default()
        }
        Servers::Group {
            sentinels,
            master,
            server,
        } => {
            let (watch, found) = sentinels::look(&name, sentinels, &master).await;
            let mut seen = vec![watch];
            if let Some((host, port)) = found {
                let info = moved_to(server, host, port);
                let name = format!("{name}: {}", address(&info));
                seen.push(server::look(name, info, Place::Master, start).await);
            }
            seen
        }
    };
    // Where nobody answers, that has been said.
    if !seen.iter().all(Seen::is_silent) {
        seen.push(probe::probe(&name, &node.backend, &prefix).await);
    }
    seen
}

/// What all of these come to, in their order.
async fn all<T>(tasks: Vec<JoinHandle<T>>) -> Result<Vec<T>, Failure> {
    let mut results = Vec::new();
    for task in tasks {
        let result = task.await;
        results.push(result.map_err(|error| Failure::new(Code::System, error))?);
    }
    Ok(results)
}

fn number(of_nodes: usize) -> Vec<Finding> {
    let mut notes = Notes::of(None);
    match of_nodes {
        1 => notes.ok("count", "1 node: there are no locks while it is down"),
        even if even % 2 == 0 => notes.warning(
            "count",
            format!("{even} nodes outlive no more failures than {}", even - 1),
            "add a node or take one away",
        ),
        odd => notes.ok(
            "count",
            format!("{odd} nodes outlive {} failures", (odd - 1) / 2),
        ),
    }
    notes.take()
}

/// Servers that are listed as several nodes, by what they call themselves.
fn twice(seen: &[Vec<Seen>]) -> Vec<Finding> {
    let mut known = HashMap::<&str, (usize, &str)>::new();
    let mut findings = Vec::new();
    for (index, servers) in seen.iter().enumerate() {
        for server in servers {
            let Some(run_id) = &server.run_id else {
                continue;
            };
            let (first, name) = known.entry(run_id).or_insert((index, &server.name));
            if *first != index {
                let mut notes = Notes::of(Some(server.name.clone()));
                let found = format!("is the same server as {name}, whose vote counts twice");
                notes.problem("identity", found, "list every server once");
                findings.extend(notes.take());
            }
        }
    }
    findings
}

fn address(info: &ConnectionInfo) -> String {
    info.addr().to_string()
}
