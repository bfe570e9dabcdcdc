//! Clauses 10 and 11: operations that nobody waits for any more.

use std::time::Duration;

use futures_util::future::join_all;
use redlock_core::{LockValue, Resources, Vote};
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};

use super::{LONG, Party, Subject, each, names, set};

/// Begins an operation and drops it, ever later.
async fn dropped_at(moment: u32, operation: impl Future) {
    if moment < 10 {
        tokio::select! {
            biased;
            _ = operation => {}
            () = yields(moment) => {}
        }
    } else {
        let _ = timeout(Duration::from_micros(20) * moment, operation).await;
    }
}

async fn yields(count: u32) {
    for _ in 0..count {
        yield_now().await;
    }
}

const MOMENTS: u32 = 60;

/// Clause 10: whatever is dropped, and whenever, the next operations work.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_dropped_operation_leaves_the_node_usable(subject: Subject) {
    let party = subject.us();
    for moment in 0..MOMENTS {
        let resource = set(names::<1>());
        let value = party.hold(&resource, LONG).await;
        let free = set(names::<1>());
        dropped_at(moment, party.0.acquire(&free, &value, LONG)).await;
        dropped_at(moment, party.0.extend(&resource, &value, LONG)).await;
        let vote = party.extend(&resource, &value, LONG).await;
        assert_eq!(vote, Vote::Granted, "clause 10: {resource} is ours");
        dropped_at(moment, party.0.release(&resource, &value)).await;
        party.release(&resource, &value).await;
        let free = party.finds_free(&resource).await;
        assert!(free, "clause 10: {resource} was released");
    }
}

/// Clause 11: after the release of an acquire that was dropped nothing is left of it.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_release_is_not_overtaken_by_a_dropped_acquire(subject: Subject) {
    let party = subject.us();
    // On an idle node most orders are right by chance.
    let busy = tokio::spawn(keep_busy(subject.them()));
    let mut dropped = Vec::new();
    for moment in 0..MOMENTS {
        let resources = match moment % 2 {
            0 => set(names::<1>()),
            _ => set(names::<3>()),
        };
        dropped.push(dropped_acquire(&party, resources, moment).await);
    }
    busy.abort();
    each(dropped, async |resources| {
        let free = subject.them().finds_free_in_time(&resources).await;
        assert!(free, "clause 11: an acquire came after its release");
    })
    .await;
}

/// Locks and unlocks other things, many at once, until it is aborted.
async fn keep_busy(party: Party) {
    loop {
        let cycles = (0..20).map(async |_| {
            let resource = set(names::<1>());
            let value = party.hold(&resource, LONG).await;
            party.release(&resource, &value).await;
        });
        join_all(cycles).await;
        sleep(Duration::from_millis(1)).await;
    }
}

async fn dropped_acquire(party: &Party, resources: Resources, moment: u32) -> Resources {
    let value = LockValue::random();
    dropped_at(moment, party.0.acquire(&resources, &value, LONG)).await;
    party.release(&resources, &value).await;
    resources
}
