//! Clauses 2 and 5 when many come at once, and from several sides.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use redlock_core::{LockValue, Vote};
use tokio::task::JoinSet;

use super::{LONG, Subject, names, set, small_and_large};

/// Clause 2: of many who want the same at the same time one gets it.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn of_many_acquires_at_once_one_is_granted(subject: Subject) {
    for resources in small_and_large() {
        let mut tasks = JoinSet::new();
        for number in 0..40 {
            let party = match number % 2 {
                0 => subject.us(),
                _ => subject.them(),
            };
            let resources = resources.clone();
            tasks.spawn(async move {
                let value = LockValue::random();
                party.acquire(&resources, &value, LONG).await
            });
        }
        let votes = tasks.join_all().await;
        let granted = votes.iter().filter(|vote| **vote == Vote::Granted).count();
        assert_eq!(granted, 1, "clause 2: {resources} was granted so often");
    }
}

/// Clause 2: sets that share a resource exclude each other.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn sets_that_overlap_are_never_held_by_two(subject: Subject) {
    let names: [String; 3] = names();
    let taken: Arc<[AtomicBool; 3]> = Arc::default();
    let mut tasks = JoinSet::new();
    for number in 0..9 {
        let party = match number % 2 {
            0 => subject.us(),
            _ => subject.them(),
        };
        let pair = [number % 3, (number + 1 + number / 3 % 2) % 3];
        let resources = set(pair.map(|index| &names[index]));
        let taken = Arc::clone(&taken);
        tasks.spawn(async move {
            let mut granted = 0;
            for _ in 0..30 {
                let value = LockValue::random();
                if party.acquire(&resources, &value, LONG).await == Vote::Refused {
                    continue;
                }
                granted += 1;
                for index in pair {
                    let before = taken[index].swap(true, Ordering::SeqCst);
                    assert!(!before, "clause 2: two hold one of {resources}");
                }
                tokio::task::yield_now().await;
                for index in pair {
                    taken[index].store(false, Ordering::SeqCst);
                }
                let released = party.release(&resources, &value).await;
                assert_eq!(released, Vote::Granted, "clause 4: {resources} was ours");
            }
            granted
        });
    }
    let granted: usize = tasks.join_all().await.into_iter().sum();
    assert!(granted > 0, "clause 1: nobody ever got anything");
}

/// Clause 1: who wants different things is not in anybody's way.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn different_resources_do_not_disturb_each_other(subject: Subject) {
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let party = subject.us();
        tasks.spawn(async move {
            let resource = set(names::<1>());
            let value = party.hold(&resource, LONG).await;
            let vote = party.extend(&resource, &value, LONG).await;
            assert_eq!(vote, Vote::Granted, "clause 5: {resource} is ours");
            let vote = party.release(&resource, &value).await;
            assert_eq!(vote, Vote::Granted, "clause 4: {resource} is ours");
        });
    }
    tasks.join_all().await;
}

/// Clauses 2, 4, 5: a lock belongs to who knows the value, not to the handle that took it.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn every_handle_sees_the_same_locks(subject: Subject) {
    for resources in small_and_large() {
        let value = subject.us().hold(&resources, LONG).await;
        let free = subject.them().finds_free(&resources).await;
        assert!(!free, "clause 2: another handle takes what is held");
        let vote = subject.them().extend(&resources, &value, LONG).await;
        assert_eq!(vote, Vote::Granted, "clause 5: the value was handed over");
        let vote = subject.them().release(&resources, &value).await;
        assert_eq!(vote, Vote::Granted, "clause 4: the value was handed over");
        let free = subject.us().finds_free(&resources).await;
        assert!(free, "clause 4: another handle has released it");
    }
}
