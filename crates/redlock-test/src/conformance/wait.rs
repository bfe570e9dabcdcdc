//! Clauses 17, 18 and 19: waiting.

use std::{pin::pin, time::Duration};

use redlock_core::{BackendErrorKind, LockValue, Place, Resources, Vote, Wake};
use tokio::{task::yield_now, time::timeout};

use super::{LONG, PATIENCE, Party, SHORT, Subject, each, names, set, small_and_large};

impl Party {
    /// Whether the node has what is optional; says so if a test is skipped.
    async fn can_wait(&self) -> bool {
        let free = set(names::<1>());
        match timeout(PATIENCE, self.0.wait(&free, Place::Last)).await {
            Ok(Err(error)) if error.kind() == BackendErrorKind::Unsupported => {
                println!("skipped: the node cannot wait: {error}");
                false
            }
            _ => true,
        }
    }

    async fn wait(&self, resources: &Resources, place: Place) -> Wake {
        let answer = self.0.wait(resources, place).await;
        answer.unwrap_or_else(|error| panic!("clause 17: waiting for {resources} failed: {error}"))
    }

    /// Takes these as soon as it is told that it can, and never without being told.
    async fn gets(&self, resources: &Resources) -> LockValue {
        let mut place = Place::Last;
        loop {
            if self.wait(resources, place).await == Wake::Turn {
                place = Place::First;
            }
            let value = LockValue::random();
            if self.acquire(resources, &value, LONG).await == Vote::Granted {
                return value;
            }
            yield_now().await;
        }
    }

    /// Whether it is told in time that it can take these.
    async fn gets_in_time(&self, resources: &Resources) -> Option<LockValue> {
        timeout(PATIENCE, self.gets(resources)).await.ok()
    }
}

/// Clause 17: nobody waits for what is free, or for what others hold besides.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn waiting_ends_at_once_where_all_is_free(subject: Subject) {
    if !subject.us().can_wait().await {
        return;
    }
    let other = set(names::<1>());
    subject.us().hold(&other, LONG).await;
    each(small_and_large(), async |resources| {
        for place in [Place::Last, Place::First] {
            let waited = timeout(PATIENCE, subject.us().wait(&resources, place)).await;
            assert!(waited.is_ok(), "clause 17: {resources} was free");
        }
        let free = subject.them().finds_free(&resources).await;
        assert!(free, "clause 17: waiting takes nothing");
    })
    .await;
}

/// Clause 17: a release is told to one that waits, and then to the next.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn waiting_ends_with_a_release(subject: Subject) {
    if !subject.us().can_wait().await {
        return;
    }
    each(small_and_large(), async |resources| {
        let (us, them) = (subject.us(), subject.them());
        let value = us.hold(&resources, LONG).await;
        let next = async |party: &Party| {
            let value = party.gets_in_time(&resources).await;
            let value = value.expect("clause 17: who waits is never told of a release");
            let vote = party.release(&resources, &value).await;
            assert_eq!(vote, Vote::Granted, "clause 4: it was ours");
        };
        let released = async {
            // They may come before the release or after it.
            yield_now().await;
            us.release(&resources, &value).await;
        };
        tokio::join!(next(&them), next(&us), next(&them), released);
    })
    .await;
}

/// Clause 17: a lease that ends by itself is noticed, also if it was extended meanwhile.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn waiting_ends_with_the_lease(subject: Subject) {
    if !subject.us().can_wait().await {
        return;
    }
    each([false, true], async |extended| {
        let (us, resources) = (subject.us(), set(names::<1>()));
        let value = us.hold(&resources, SHORT).await;
        let them = subject.them();
        let extend = async {
            if extended {
                yield_now().await;
                us.extend(&resources, &value, SHORT + SHORT / 2).await;
            }
        };
        let (got, ()) = tokio::join!(them.gets_in_time(&resources), extend);
        assert!(
            got.is_some(),
            "clause 17: the end of a lease is never noticed"
        );
    })
    .await;
}

/// Clause 18: who was dropped while it waited takes no turn from others.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn who_stops_waiting_is_in_nobodys_way(subject: Subject) {
    if !subject.us().can_wait().await {
        return;
    }
    each([1, 3, 300], async |polls: u32| {
        let (us, them, resources) = (subject.us(), subject.them(), set(names::<1>()));
        let value = us.hold(&resources, LONG).await;
        for _ in 0..3 {
            let gives_up = async {
                for _ in 0..polls {
                    yield_now().await;
                }
            };
            let mut waits = pin!(us.wait(&resources, Place::Last));
            tokio::select! {
                biased;
                _ = &mut waits => {}
                () = gives_up => {}
            }
        }
        let release = async {
            yield_now().await;
            us.release(&resources, &value).await;
        };
        let (got, ()) = tokio::join!(them.gets_in_time(&resources), release);
        assert!(
            got.is_some(),
            "clause 18: the turn went to one that has left"
        );
    })
    .await;
}

/// Clause 19: it waits, or it never does.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn waiting_is_all_or_nothing(subject: Subject) {
    for party in [subject.us(), subject.them()] {
        let can = party.can_wait().await;
        let resources = set(names::<2>());
        party.hold(&resources, LONG).await;
        for place in [Place::Last, Place::First] {
            let waited = timeout(Duration::from_millis(50), party.0.wait(&resources, place)).await;
            let supported = !matches!(
                waited,
                Ok(Err(error)) if error.kind() == BackendErrorKind::Unsupported
            );
            assert_eq!(supported, can, "clause 19: it can wait sometimes");
        }
        let awaited = party.0.is_awaited(&set(names::<1>()));
        assert!(!awaited, "clause 19: nobody waits for that");
    }
}
