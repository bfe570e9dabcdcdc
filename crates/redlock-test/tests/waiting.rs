//! Nodes at which waiting is broken are found out by the clause that says so.

mod common;

use std::{borrow::Cow, future::pending, time::Duration};

use async_trait::async_trait;
use common::{Clause, assert_each_is_rejected, rejects};
use redlock_core::{
    BackendError, BackendErrorKind, LockBackend, LockValue, MemoryBackend, Place, Resources, Vote,
    Wake,
};
use redlock_test::{Fault, Faulty, Operation, conformance::Subject};
use tokio::time::timeout;

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    NeverEnds,
    Takes,
    Forgets(Wake),
    KeepsTheDropped,
    Sometimes,
    AlwaysAwaited,
}

/// A node in memory with one thing wrong, or nothing.
#[derive(Clone, Debug)]
struct Broken {
    node: MemoryBackend,
    wrong: Option<Wrong>,
}

impl Broken {
    fn subject(wrong: Option<Wrong>) -> Subject {
        let node = MemoryBackend::new();
        Subject::new(Self { node, wrong })
    }
}

#[async_trait]
impl LockBackend for Broken {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.node.acquire(resources, value, ttl).await
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        self.node.release(resources, value).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.node.extend(resources, value, ttl).await
    }

    async fn wait(&self, resources: &Resources, place: Place) -> Result<Wake, BackendError> {
        let node = self.node.clone();
        match self.wrong {
            Some(Wrong::NeverEnds) => pending().await,
            Some(Wrong::Takes) => {
                let ttl = Duration::from_secs(300);
                node.acquire(resources, &LockValue::random(), ttl).await?;
            }
            Some(Wrong::Forgets(forgotten)) => {
                let at_once = node.wait(resources, place);
                if let Ok(free) = timeout(Duration::ZERO, at_once).await {
                    return free;
                }
                let woken = node.wait(resources, place).await?;
                return if woken == forgotten {
                    pending().await
                } else {
                    Ok(woken)
                };
            }
            Some(Wrong::KeepsTheDropped) => {
                let resources = resources.clone();
                let waits = tokio::spawn(async move { node.wait(&resources, place).await });
                return waits.await.expect("it does not panic");
            }
            Some(Wrong::Sometimes) if place == Place::First => {
                let cause = "not in front";
                return Err(BackendError::new(BackendErrorKind::Unsupported, cause));
            }
            _ => {}
        }
        self.node.wait(resources, place).await
    }

    fn is_awaited(&self, resources: &Resources) -> bool {
        self.wrong == Some(Wrong::AlwaysAwaited) || self.node.is_awaited(resources)
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.node.name()
    }
}

/// The clause that must find out what is wrong.
fn clause_against(wrong: Wrong) -> Clause {
    match wrong {
        Wrong::NeverEnds | Wrong::Takes => clause!(waiting_ends_at_once_where_all_is_free),
        Wrong::Forgets(Wake::Turn) => clause!(waiting_ends_with_a_release),
        Wrong::Forgets(Wake::Free) => clause!(waiting_ends_with_the_lease),
        Wrong::KeepsTheDropped => clause!(who_stops_waiting_is_in_nobodys_way),
        Wrong::Sometimes | Wrong::AlwaysAwaited => clause!(waiting_is_all_or_nothing),
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_at_which_waiting_is_broken_is_rejected_by_the_clause_that_says_so() {
    let all = [
        Wrong::NeverEnds,
        Wrong::Takes,
        Wrong::Forgets(Wake::Turn),
        Wrong::Forgets(Wake::Free),
        Wrong::KeepsTheDropped,
        Wrong::Sometimes,
        Wrong::AlwaysAwaited,
    ];
    assert_each_is_rejected(&all, clause_against, Broken::subject).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_node_that_says_so_need_not_wait() {
    let clauses: [Clause; 4] = [
        clause!(waiting_ends_at_once_where_all_is_free),
        clause!(waiting_ends_with_a_release),
        clause!(waiting_ends_with_the_lease),
        clause!(who_stops_waiting_is_in_nobodys_way),
    ];
    for clause in clauses {
        let subject = |fault| {
            let node = Faulty::new(MemoryBackend::new());
            node.on(Operation::Wait, fault);
            Subject::new(node)
        };
        let (name, test) = clause;
        test(subject(Fault::Refuse)).await;
        let failing = subject(Fault::Fail(BackendErrorKind::Server));
        assert!(
            rejects(clause, failing).await,
            "a node that fails passes {name}"
        );
    }
}
