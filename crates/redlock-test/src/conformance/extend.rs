//! Clauses 5 to 7: what an extension does, and never does.

use std::time::Duration;

use redlock_core::{Instant, LockValue, Vote};
use tokio::time::sleep;

use super::{LONG, SHORT, Subject, each, names, set, small_and_large};

/// Clause 5: if all carry the value, the ttl starts anew.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn extend_restarts_the_ttl(subject: Subject) {
    each(small_and_large(), async |resources| {
        let mut ttl = SHORT;
        let extended = loop {
            let start = Instant::now();
            let ours = subject.us().hold(&resources, ttl).await;
            sleep(ttl / 2).await;
            let extended = Instant::now();
            let vote = subject.us().extend(&resources, &ours, ttl).await;
            if vote == Vote::Granted {
                break extended;
            }
            // On a machine that is too busy the lease may have ended.
            assert!(start.elapsed() >= ttl, "clause 5: {resources} was ours");
            ttl *= 2;
        };
        let ends = subject.them().finds_free_in_time(&resources).await;
        assert!(ends, "clause 3: the extended lease never ends");
        let lasted = extended.elapsed();
        assert!(lasted >= ttl, "clause 5: it ended after {lasted:?}");
    })
    .await;
}

/// Clause 5: nobody extends what carries another value.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn extend_needs_the_value(subject: Subject) {
    each(small_and_large(), async |resources| {
        subject.them().hold(&resources, SHORT).await;
        let foreign = LockValue::random();
        let vote = subject.us().extend(&resources, &foreign, LONG).await;
        assert_eq!(vote, Vote::Refused, "clause 5: it was never ours");
        let ends = subject.us().finds_free_in_time(&resources).await;
        assert!(ends, "clause 5: another's lock was extended");
    })
    .await;
}

/// Clause 5: if one of several is missing or another's, none is extended.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn extend_needs_all(subject: Subject) {
    each(
        [(0, false), (2, false), (0, true), (2, true)],
        async |(position, held)| {
            let names: [String; 3] = names();
            let (foreign, own): (Vec<_>, Vec<_>) =
                names.iter().partition(|name| **name == names[position]);
            let (foreign, own) = (set(foreign), set(own));
            if held {
                subject.them().hold(&foreign, LONG).await;
            }
            let ours = subject.us().hold(&own, SHORT).await;
            let vote = subject.us().extend(&set(&names), &ours, LONG).await;
            assert_eq!(vote, Vote::Refused, "clause 5: {foreign} was not ours");
            let free = subject.them().finds_free(&foreign).await;
            assert_eq!(free, !held, "clauses 5, 6: {foreign} was changed");
            let ends = subject.them().finds_free_in_time(&own).await;
            assert!(
                ends,
                "clause 5: some were extended though not all were ours"
            );
        },
    )
    .await;
}

/// Clause 6: what is missing is not set, whether it was released, has expired, or never was.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn extend_never_revives(subject: Subject) {
    each(small_and_large(), async |resources| {
        let never = LockValue::random();
        let released = subject.us().hold(&resources, LONG).await;
        subject.us().release(&resources, &released).await;
        let expired = subject.us().hold(&resources, SHORT).await;
        sleep(2 * SHORT).await;
        let vote = subject.us().extend(&resources, &expired, LONG).await;
        assert_eq!(vote, Vote::Refused, "clause 6: {resources} has expired");
        for value in [never, released, expired] {
            let vote = subject.us().extend(&resources, &value, LONG).await;
            assert_eq!(vote, Vote::Refused, "clause 6: {resources} is missing");
            let free = subject.them().finds_free(&resources).await;
            assert!(free, "clause 6: an extension has revived {resources}");
        }
    })
    .await;
}

/// Clause 7: a lease that is longer already stays as it is.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn extend_never_shortens(subject: Subject) {
    each(small_and_large(), async |resources| {
        let ours = subject.us().hold(&resources, LONG).await;
        let little = Duration::from_millis(50);
        let vote = subject.us().extend(&resources, &ours, little).await;
        assert_eq!(vote, Vote::Granted, "clause 5: {resources} was ours");
        sleep(3 * little).await;
        let free = subject.them().finds_free(&resources).await;
        assert!(!free, "clause 7: an extension has shortened the lease");
        let vote = subject.us().extend(&resources, &ours, LONG).await;
        assert_eq!(vote, Vote::Granted, "clause 7: the lease was cut short");
    })
    .await;
}
