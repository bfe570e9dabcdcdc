//! `redlock force-release`.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    sync::Arc,
};

use clap::Args;
use redlock::{
    LockBackend, LockValue, NodeInspection, RawValue, Redlock, Resources, Verdict, Vote,
};

use crate::{
    cli::Global,
    commands::print,
    config,
    exit::{Code, Failure, say},
    inspection::{Inspected, inspect},
    session,
    table::visible,
};

const HELP: &str = "\
Shows who holds the resource, asks, and releases what was found by its value on every node: what another takes
meanwhile stays. Whoever held it is not told, and may go on until its next extension fails.

Example:
  redlock force-release deploy
  redlock force-release --yes deploy    # without being asked";

/// Take a lock away from whoever holds it
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct ForceRelease {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// What to free
    #[arg(value_name = "RESOURCE")]
    resource: String,
}

/// The values that were found, by whether they can be released: those of locks, and those of others.
struct Found {
    locks: Vec<LockValue>,
    foreign: Vec<(String, String)>,
}

impl ForceRelease {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let resource = Resources::new([&*self.resource])?;
        let nodes = session::backends(config::read(global)?.nodes);
        session::run_on(
            nodes.clone(),
            |builder| builder,
            async move |redlock| {
                let before = look(&redlock, &resource).await?;
                print(before.table().as_bytes())?;
                let found = Found::on(&before);
                if found.locks.is_empty() {
                    return self.end(&before, &found, 0);
                }
                self.confirm(&before)?;
                let mut failed = 0;
                for value in &found.locks {
                    let votes = release(&nodes, &resource, value).await;
                    let freed = votes.iter().filter(|it| matches!(it, Ok(Vote::Granted)));
                    let (freed, all) = (freed.count(), votes.len());
                    let (name, shown) = (&self.resource, RawValue::from(value).to_string());
                    let line = format!("{name:?}: freed {shown} on {freed} of {all} nodes\n");
                    print(line.as_bytes())?;
                    for (node, vote) in before.inspection().iter().zip(votes) {
                        let Err(error) = vote else { continue };
                        if !found.is_foreign(node) {
                            // Servers repeat what they do not understand.
                            let error = error.replace(value.as_str(), &shown);
                            say(&format!("{name:?} on {}: {error}", node.node()));
                            failed += 1;
                        }
                    }
                }
                let after = look(&redlock, &resource).await?;
                self.end(&after, &found, failed)
            },
        )
    }

    /// Only a person at a terminal can be asked.
    fn confirm(&self, before: &Inspected) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let name = &self.resource;
        let refused = |reason: &str| {
            let message = format!("{name:?}: {reason}; nothing was changed");
            Err(Failure::new(Code::NotConfirmed, message))
        };
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return refused("nobody can be asked without a terminal; --yes releases it");
        }
        let mut terminal = io::stderr();
        let verdict = visible(before.verdict());
        // The table may have gone elsewhere.
        write!(terminal, "{name:?}: {verdict}. Release it? [y/N] ")?;
        terminal.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => refused("not confirmed"),
        }
    }

    /// What is left of it, and how it ends.
    fn end(&self, after: &Inspected, found: &Found, failed: usize) -> Result<u8, Failure> {
        let name = &self.resource;
        print(format!("{name:?}: now {}\n", visible(after.verdict())).as_bytes())?;
        for (node, why) in &found.foreign {
            let node = visible(node);
            let advice = "if it may go, delete it there";
            say(&format!(
                "{name:?} on {node}: {why}; {advice}{}",
                deletion(name)
            ));
        }
        if failed > 0 && found.is_there(after.inspection().verdict()) {
            let message =
                format!("{name:?}: not freed, as nodes failed; try again, or the ttl frees it");
            return Err(Failure::new(Code::Unavailable, message));
        }
        if found.foreign.is_empty() {
            return after.known().map(|()| 0);
        }
        let message = format!("{name:?}: what is no lock was left alone");
        Err(Failure::new(Code::Data, message))
    }
}

impl Found {
    fn on(inspected: &Inspected) -> Self {
        let (mut locks, mut foreign) = (BTreeMap::new(), Vec::new());
        for node in inspected.inspection() {
            match lock_on(node) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    locks.insert(value.as_str().to_owned(), value);
                }
                Err(why) => foreign.push((node.node().to_owned(), why)),
            }
        }
        Self {
            locks: locks.into_values().collect(),
            foreign,
        }
    }

    /// Whether the node was found to have something else there.
    fn is_foreign(&self, node: &NodeInspection) -> bool {
        self.foreign.iter().any(|(name, _)| name == node.node())
    }

    /// Whether one of these locks is, or may be, still held.
    fn is_there(&self, verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Free => false,
            Verdict::HeldBy(holder) => {
                let held = |lock: &LockValue| lock.as_str().as_bytes() == holder.value.as_bytes();
                self.locks.iter().any(held)
            }
            _ => true,
        }
    }
}

async fn look(redlock: &Redlock, resource: &Resources) -> Result<Inspected, Failure> {
    let mut inspected = inspect(redlock, resource).await?;
    Ok(inspected.remove(0))
}

/// The value of the lock there, or why what is there is none.
fn lock_on(node: &NodeInspection) -> Result<Option<LockValue>, String> {
    match node.answer() {
        Ok(Some(holder)) => match std::str::from_utf8(holder.value.as_bytes()) {
            Ok(text) if text.parse::<LockValue>().is_ok() => Ok(text.parse().ok()),
            _ => Err("what is there is no value of a lock".to_owned()),
        },
        Err(error) if error.to_string().contains("WRONGTYPE") => {
            Err("what is there is no text".to_owned())
        }
        // Whether the others matter is up to the verdict.
        Ok(None) | Err(_) => Ok(None),
    }
}

/// What each node says to the release of this value.
async fn release(
    nodes: &[Arc<dyn LockBackend>],
    resource: &Resources,
    value: &LockValue,
) -> Vec<Result<Vote, String>> {
    let asked = nodes.iter().map(|node| {
        let (node, resource, value) = (Arc::clone(node), resource.clone(), value.clone());
        tokio::spawn(async move { node.release(&resource, &value).await })
    });
    let asked: Vec<_> = asked.collect();
    let mut votes = Vec::new();
    for answer in asked {
        votes.push(match answer.await {
            Ok(vote) => vote.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        });
    }
    votes
}

/// The command that deletes it, for a shell; nothing if it could not be shown.
fn deletion(name: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_-./:@%+,".contains(it);
    if name.contains(char::is_control) {
        String::new()
    } else if name.chars().all(plain) {
        format!(": redis-cli DEL {name}")
    } else {
        format!(": redis-cli DEL '{}'", name.replace('\'', r"'\''"))
    }
}
