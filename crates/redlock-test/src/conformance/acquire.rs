//! Clauses 1 to 3: what an acquire grants, and for how long.

use std::time::Duration;

use redlock_core::{Instant, LockValue, Vote};
use tokio::time::sleep;

use super::{LONG, SHORT, Subject, each, names, set, small_and_large};

/// Clause 1: free resources are granted, one or several.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn acquire_grants_what_is_free(subject: Subject) {
    for resources in small_and_large() {
        let value = LockValue::random();
        let vote = subject.us().acquire(&resources, &value, LONG).await;
        assert_eq!(vote, Vote::Granted, "clause 1: {resources} is free");
    }
}

/// Clause 2: what is held is refused, to others and to the holder itself.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn acquire_refuses_what_is_held_by_whomever(subject: Subject) {
    for resources in small_and_large() {
        let ours = subject.us().hold(&resources, LONG).await;
        let free = subject.them().finds_free(&resources).await;
        assert!(!free, "clause 2: {resources} is held by another");
        let again = subject.us().acquire(&resources, &ours, LONG).await;
        assert_eq!(again, Vote::Refused, "clause 2: held by this very value");
    }
}

/// Clause 2: if one of several is held, none is taken.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn acquire_takes_all_or_none(subject: Subject) {
    for position in 0..3 {
        let names: [String; 3] = names();
        let held = set([&names[position]]);
        let ours = subject.us().hold(&held, LONG).await;
        let theirs = LockValue::random();
        let vote = subject.them().acquire(&set(&names), &theirs, LONG).await;
        assert_eq!(vote, Vote::Refused, "clause 2: {held} is held");
        for name in names.iter().filter(|name| !held.contains(name)) {
            let free = subject.us().finds_free(&set([name])).await;
            assert!(free, "clause 2: nothing is taken by a refused acquire");
        }
        let released = subject.us().release(&held, &ours).await;
        assert_eq!(released, Vote::Granted, "clause 2: its holder keeps it");
    }
}

/// Clause 2: a refused acquire changes neither whose it is nor for how long.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_refused_acquire_changes_nothing(subject: Subject) {
    each(small_and_large(), async |resources| {
        subject.us().hold(&resources, SHORT).await;
        let theirs = LockValue::random();
        if subject.them().acquire(&resources, &theirs, LONG).await == Vote::Refused {
            let ends = subject.them().finds_free_in_time(&resources).await;
            assert!(ends, "clause 2: a refused acquire prolongs nothing");
        }
    })
    .await;
}

/// Clause 3: a lease ends, `ttl` after the node took it, and not before.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_lease_ends_by_itself_and_not_before(subject: Subject) {
    each(small_and_large(), async |resources| {
        let start = Instant::now();
        subject.us().hold(&resources, SHORT).await;
        let ends = subject.them().finds_free_in_time(&resources).await;
        assert!(ends, "clause 3: the lease of {SHORT:?} never ends");
        let lasted = start.elapsed();
        assert!(lasted >= SHORT, "clause 3: it ended after {lasted:?}");
    })
    .await;
}

/// Clause 3: the shortest lease is a lease, and so is one of a month.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_lease_can_be_as_short_or_as_long_as_one_likes(subject: Subject) {
    each(small_and_large(), async |resources| {
        subject.us().hold(&resources, Duration::from_nanos(1)).await;
        let ends = subject.them().finds_free_in_time(&resources).await;
        assert!(ends, "clause 3: the lease of a nanosecond never ends");
        let month = Duration::from_secs(31 * 24 * 3600);
        subject.us().hold(&resources, month).await;
        sleep(Duration::from_millis(50)).await;
        let free = subject.them().finds_free(&resources).await;
        assert!(!free, "clause 3: the lease of a month has ended");
    })
    .await;
}
