//! Clause 4: what a release frees.

use redlock_core::{LockValue, Vote};
use tokio::time::sleep;

use super::{LONG, SHORT, Subject, each, names, set, small_and_large};

/// Clause 4: what carries the value is freed, once.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn release_frees_what_carries_the_value(subject: Subject) {
    for resources in small_and_large() {
        let ours = subject.us().hold(&resources, LONG).await;
        let released = subject.us().release(&resources, &ours).await;
        assert_eq!(released, Vote::Granted, "clause 4: {resources} was ours");
        let free = subject.them().finds_free(&resources).await;
        assert!(free, "clause 4: {resources} was released");
        let again = subject.us().release(&resources, &ours).await;
        assert_eq!(again, Vote::Refused, "clause 4: nothing was ours any more");
    }
}

/// Clause 4: what carries another value stays.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn release_leaves_what_carries_another_value(subject: Subject) {
    for resources in small_and_large() {
        let theirs = subject.them().hold(&resources, LONG).await;
        let released = subject.us().release(&resources, &LockValue::random()).await;
        assert_eq!(released, Vote::Refused, "clause 4: it was never ours");
        let free = subject.us().finds_free(&resources).await;
        assert!(!free, "clause 4: {resources} was freed by a foreign value");
        let released = subject.them().release(&resources, &theirs).await;
        assert_eq!(released, Vote::Granted, "clause 4: its holder keeps it");
    }
}

/// Clause 4: of several resources those are freed that carry the value, and the vote says that not all did.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn release_frees_those_of_several_that_carry_the_value(subject: Subject) {
    for position in 0..3 {
        let names: [String; 3] = names();
        let (foreign, own): (Vec<_>, Vec<_>) =
            names.iter().partition(|name| **name == names[position]);
        let (foreign, own) = (set(foreign), set(own));
        let ours = subject.us().hold(&own, LONG).await;
        // Once the foreign one is held, once it is missing.
        let theirs = subject.them().hold(&foreign, LONG).await;
        let released = subject.us().release(&set(&names), &ours).await;
        assert_eq!(released, Vote::Refused, "clause 4: {foreign} was not ours");
        let free = subject.them().finds_free(&own).await;
        assert!(free, "clause 4: {own} carried the value");
        let released = subject.them().release(&foreign, &theirs).await;
        assert_eq!(released, Vote::Granted, "clause 4: {foreign} is theirs");

        let ours = subject.us().hold(&own, LONG).await;
        let released = subject.us().release(&set(&names), &ours).await;
        assert_eq!(released, Vote::Refused, "clause 4: {foreign} was missing");
        let free = subject.them().finds_free(&own).await;
        assert!(free, "clause 4: {own} carried the value");
    }
}

/// Clause 4: after a lease has ended its value frees nothing, also if it is another's now.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn release_of_what_has_expired_frees_nothing(subject: Subject) {
    each(small_and_large(), async |resources| {
        let ours = subject.us().hold(&resources, SHORT).await;
        // Nobody else has come, and what is left of it is not a lock.
        sleep(2 * SHORT).await;
        let released = subject.us().release(&resources, &ours).await;
        assert_eq!(released, Vote::Refused, "clause 4: it had expired");
        subject.them().hold(&resources, LONG).await;
        let released = subject.us().release(&resources, &ours).await;
        assert_eq!(released, Vote::Refused, "clause 4: it is another's now");
        let free = subject.us().finds_free(&resources).await;
        assert!(!free, "clause 4: another's lock was freed");
    })
    .await;
}
