//! Whether a node does what locks need: the proof is a lock of its own.

use std::{sync::Arc, time::Duration};

use redlock::{BackendError, LockBackend, LockValue, Resources, Vote};
use tokio::time::{Instant, timeout};

use super::{finding::Notes, server::Seen};

/// What is left of the lock, if it cannot be released, ends by itself.
const TTL: Duration = Duration::from_secs(10);

/// For each answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is said of a server that has to wait, as the restart guard wants it.
const PROBATION: &str = "restarted or replaced";

/// What to do about what servers say, by the code that their errors begin with, or what the driver makes of it.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["noperm", "can't run this command"],
        "let the user run what locks need, on their keys: ACL SETUSER … +set +get +mget +del +pexpire +pttl +eval +evalsha; \
         --probe-prefix names keys that it may use",
    ),
    (
        &["noauth", "wrongpass", "authentication"],
        "correct the user, the password or the address",
    ),
    (
        &["oom"],
        "free memory or raise maxmemory, and keep locks and data on different servers",
    ),
    (
        &["noreplicas"],
        "start its replicas, or lower min-replicas-to-write",
    ),
    (
        &["loading"],
        "it reads its data from disk: wait, and check again",
    ),
    (
        &["busy"],
        "a script keeps it busy: wait, or end that by SCRIPT KILL or FUNCTION KILL",
    ),
    (
        &["misconf"],
        "its last snapshot failed: free disk space, or set stop-writes-on-bgsave-error no",
    ),
    (
        &["readonly", "masterdown"],
        "it is a replica: list its master, or a server of its own",
    ),
    (
        &["clusterdown"],
        "the cluster does not serve: see CLUSTER INFO and CLUSTER NODES there",
    ),
    (&[PROBATION], "wait for the time of the restart guard"),
    (
        &[
            "unreachable",
            "timed out",
            "refused",
            "reset by peer",
            "broken pipe",
        ],
        "start the server, or correct its address",
    ),
];

/// What to do about an error of a server.
pub(super) fn advice(error: &str) -> &'static str {
    let error = error.to_lowercase();
    let known = |words: &[&str]| words.iter().any(|word| error.contains(word));
    let advice = ADVICE.iter().find(|(words, _)| known(words));
    advice.map_or("look into the server's log", |(_, advice)| advice)
}

/// Takes a lock of a name that nobody else has, extends it, and releases it.
pub(super) async fn probe(name: &str, node: &Arc<dyn LockBackend>, prefix: &str) -> Seen {
    let mut notes = Notes::of(Some(name.to_owned()));
    let value = LockValue::random();
    let start = Instant::now();
    match Resources::new([format!("{prefix}{}", value.as_str())]) {
        Ok(resource) => {
            let taken = answer(node.acquire(&resource, &value, TTL)).await;
            let extended = match &taken {
                Ok(()) => answer(node.extend(&resource, &value, TTL)).await,
                Err(_) => Ok(()),
            };
            // Also what may have been taken in spite of an error.
            let released = answer(node.release(&resource, &value)).await;
            let released = if taken.is_ok() { released } else { Ok(()) };
            let took = start.elapsed();
            let mut fine = true;
            for (does, outcome) in [("take", taken), ("extend", extended), ("release", released)] {
                if let Err(error) = outcome {
                    // Servers repeat what they do not understand.
                    let error = error.replace(value.as_str(), "…");
                    let found = format!("cannot {does} a lock: {error}");
                    if error.contains(PROBATION) {
                        notes.warning("locking", found, advice(&error));
                    } else {
                        notes.problem("locking", found, advice(&error));
                    }
                    fine = false;
                }
            }
            if fine {
                let found = format!("takes, extends and releases a lock in {took:.1?}");
                notes.ok("locking", found);
            }
        }
        Err(error) => notes.problem("locking", error.to_string(), "give another --probe-prefix"),
    }
    Seen {
        name: name.to_owned(),
        run_id: None,
        clock: None,
        notes: notes.take(),
    }
}

async fn answer(vote: impl Future<Output = Result<Vote, BackendError>>) -> Result<(), String> {
    match timeout(PATIENCE, vote).await {
        Ok(Ok(Vote::Granted)) => Ok(()),
        Ok(Ok(Vote::Refused)) => Err("the server says no".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("timed out".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_advice() {
        for (error, about) in [
            (
                "unsupported: script: NoPerm: this user has no permissions",
                "ACL SETUSER",
            ),
            ("server error: \"OOM\": command not allowed", "maxmemory"),
            (
                "server error: \"NOREPLICAS\": Not enough good replicas",
                "min-replicas",
            ),
            ("BusyLoadingError: Redis is loading", "wait"),
            (
                "server error: \"BUSY\": Redis is busy running a script",
                "SCRIPT KILL",
            ),
            ("server error: \"WRONGPASS\": invalid", "password"),
            (
                "unreachable: Connection refused (os error 111)",
                "start the server",
            ),
            ("timed out", "start the server"),
            ("?", "log"),
        ] {
            assert!(advice(error).contains(about), "{error}: {}", advice(error));
        }
    }
}
