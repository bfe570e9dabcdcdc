//! Clause 12: what an inspection tells, and that it does nothing else. A node without it passes.

use std::time::Duration;

use redlock_core::{Instant, LockValue, Vote};
use tokio::time::sleep;

use super::{LONG, PATIENCE, SHORT, Subject, each, small_and_large};

/// Clause 12: of every resource it is told what it carries, and for how long still.
///
/// A node without inspection passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn inspect_tells_who_holds(subject: Subject) {
    if !subject.us().can_inspect().await {
        return;
    }
    let [ours, theirs] = [subject.us(), subject.them()];
    let mut held = Vec::new();
    for resources in small_and_large().into_iter().chain(small_and_large()) {
        let start = Instant::now();
        let value = ours.hold(&resources, LONG).await;
        held.push((resources, value, start));
    }
    for (resources, value, start) in held {
        for name in resources.iter() {
            let Some(holder) = theirs.inspect(name).await else {
                panic!("clause 12: {name} is held");
            };
            assert_eq!(holder.value, value, "clause 12: it is another's value");
            let remaining = holder.remaining.expect("clause 12: the lease ends");
            assert!(remaining > Duration::ZERO, "clause 12: it is held");
            assert!(
                remaining <= LONG,
                "clause 12: it has {remaining:?} of {LONG:?}"
            );
            // Half of it for a node whose clock runs at another rate.
            let least = (LONG / 2).saturating_sub(start.elapsed());
            assert!(
                remaining > least,
                "clause 12: it has {remaining:?} of {LONG:?}"
            );
        }
    }
}

/// Clause 12: nothing holds what was never taken, was released, or has expired.
///
/// A node without inspection passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn inspect_finds_nothing_that_is_free_or_has_expired(subject: Subject) {
    if !subject.us().can_inspect().await {
        return;
    }
    each(small_and_large(), async |resources| {
        let finds_nothing = async |why: &str| {
            for name in resources.iter() {
                let holder = subject.us().inspect(name).await;
                assert_eq!(holder, None, "clause 12: {name} {why}");
            }
        };
        finds_nothing("was never taken").await;
        let value = subject.us().hold(&resources, LONG).await;
        subject.us().release(&resources, &value).await;
        finds_nothing("was released").await;
        subject.them().hold(&resources, SHORT).await;
        // Nobody else has come, and what is left of it is not a lock.
        sleep(2 * SHORT).await;
        finds_nothing("has expired").await;
    })
    .await;
}

/// Clause 12: what is free stays free, and what is held stays so, for as long as it would have.
///
/// A node without inspection passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn inspect_changes_nothing(subject: Subject) {
    if !subject.us().can_inspect().await {
        return;
    }
    each(small_and_large(), async |resources| {
        let inspect_all = async || {
            for name in resources.iter() {
                subject.them().inspect(name).await;
            }
        };
        inspect_all().await;
        let free = subject.us().finds_free(&resources).await;
        assert!(free, "clause 12: {resources} was taken by an inspection");

        let start = Instant::now();
        subject.us().hold(&resources, SHORT).await;
        loop {
            inspect_all().await;
            if subject.us().finds_free(&resources).await {
                break;
            }
            let lasted = start.elapsed();
            assert!(
                lasted < PATIENCE,
                "clause 12: inspections prolong the lease"
            );
            sleep(Duration::from_millis(20)).await;
        }
        let lasted = start.elapsed();
        assert!(lasted >= SHORT, "clause 12: it ended after {lasted:?}");

        let value: LockValue = subject.us().hold(&resources, LONG).await;
        inspect_all().await;
        let vote = subject.us().extend(&resources, &value, LONG).await;
        assert_eq!(vote, Vote::Granted, "clause 12: {resources} is still ours");
        inspect_all().await;
        let vote = subject.us().release(&resources, &value).await;
        assert_eq!(vote, Vote::Granted, "clause 12: {resources} is still ours");
    })
    .await;
}
