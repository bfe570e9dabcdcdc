//! The contract of [`LockBackend`], clause by clause, as tests.
//!
//! [`conformance!`](crate::conformance!) makes one test of each function here. Every one takes a node
//! that works, uses resources of its own on it, and panics with the clause that the node breaks. What is
//! optional passes, and says `skipped`, if the node answers that it does not support it. They need real time:
//! leases of one and a half seconds end while they wait.
//!
//! ```
//! use redlock_core::MemoryBackend;
//! use redlock_test::conformance::{Subject, extend_never_revives};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! extend_never_revives(Subject::new(MemoryBackend::new())).await;
//! # }
//! ```

mod acquire;
mod concurrency;
mod dropped;
mod extend;
mod fencing;
mod inspect;
mod names;
mod release;
mod wait;

use std::{any::Any, fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use redlock_core::{BackendErrorKind, Holder, Instant, LockBackend, LockValue, Resources, Vote};
use tokio::time::sleep;

pub use self::{
    acquire::*, concurrency::*, dropped::*, extend::*, fencing::*, inspect::*, names::*,
    release::*, wait::*,
};

/// One `#[tokio::test]` for every clause of the contract of
/// [`LockBackend`](redlock_core::LockBackend).
///
/// Its argument is an expression, evaluated in every test in an async context, so that it may `.await`; it
/// makes the [`Subject`]. Errors end a test, so that a node that may be busy needs generous timeouts. The crate needs tokio with the features `macros` and `rt-multi-thread`.
///
/// ```
/// # // The tests themselves are not run here.
/// mod memory {
///     use redlock_core::MemoryBackend;
///     use redlock_test::conformance::Subject;
///
///     redlock_test::conformance!(Subject::new(MemoryBackend::new()));
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    ($subject:expr) => {
        $crate::conformance!($subject;
            acquire_grants_what_is_free
            acquire_refuses_what_is_held_by_whomever
            acquire_takes_all_or_none
            a_refused_acquire_changes_nothing
            a_lease_ends_by_itself_and_not_before
            a_lease_can_be_as_short_or_as_long_as_one_likes
            release_frees_what_carries_the_value
            release_leaves_what_carries_another_value
            release_frees_those_of_several_that_carry_the_value
            release_of_what_has_expired_frees_nothing
            extend_restarts_the_ttl
            extend_needs_the_value
            extend_needs_all
            extend_never_revives
            extend_never_shortens
            names_are_just_names
            values_are_compared_whole
            the_order_of_the_resources_does_not_matter
            a_node_is_named_always_the_same
            of_many_acquires_at_once_one_is_granted
            sets_that_overlap_are_never_held_by_two
            different_resources_do_not_disturb_each_other
            every_handle_sees_the_same_locks
            a_dropped_operation_leaves_the_node_usable
            a_release_is_not_overtaken_by_a_dropped_acquire
            inspect_tells_who_holds
            inspect_finds_nothing_that_is_free_or_has_expired
            inspect_changes_nothing
            only_a_greater_fencing_token_is_granted
            what_is_held_is_refused_whatever_the_fencing_token
            a_fencing_token_is_above_all_fences_or_nothing_is_touched
            a_fence_outlives_its_lock
            a_fence_is_forgotten_in_time
            a_fencing_token_keeps_to_the_nodes_clock
            a_fencing_token_is_granted_once
            waiting_ends_at_once_where_all_is_free
            waiting_ends_with_a_release
            waiting_ends_with_the_lease
            who_stops_waiting_is_in_nobodys_way
            waiting_is_all_or_nothing
        );
    };
    ($subject:expr; $($clause:ident)+) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                let subject: $crate::conformance::Subject = $subject;
                $crate::conformance::$clause(subject).await;
            }
        )+
    };
}

/// Longer than any test waits for what must not depend on a lease that ends.
const LONG: Duration = Duration::from_secs(120);
/// A lease whose end is waited for; not whole seconds.
const SHORT: Duration = Duration::from_millis(1300);
/// How long something that has to happen may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a backend promises is tested on: one node, reached in one or two ways.
pub struct Subject {
    node: Arc<dyn LockBackend>,
    peer: Option<Arc<dyn LockBackend>>,
    fixture: Option<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// The node behind this backend.
    pub fn new(backend: impl LockBackend) -> Self {
        Self {
            node: Arc::new(backend),
            peer: None,
            fixture: None,
        }
    }

    /// A second backend for the same node, such as another process would have. The tests let the two
    /// compete. By default both are the same.
    #[must_use]
    pub fn peer(mut self, backend: impl LockBackend) -> Self {
        self.peer = Some(Arc::new(backend));
        self
    }

    /// Something that must live as long as the test, such as the server.
    #[must_use]
    pub fn keeping(mut self, fixture: impl Any + Send + Sync) -> Self {
        self.fixture = Some(Box::new(fixture));
        self
    }

    fn us(&self) -> Party {
        Party(Arc::clone(&self.node))
    }

    fn them(&self) -> Party {
        Party(Arc::clone(self.peer.as_ref().unwrap_or(&self.node)))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("node", &self.node)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Who uses the node. An error is the end of a test: the node is there to work.
#[derive(Clone)]
struct Party(Arc<dyn LockBackend>);

impl Party {
    async fn acquire(&self, resources: &Resources, value: &LockValue, ttl: Duration) -> Vote {
        let answer = self.0.acquire(resources, value, ttl).await;
        answer.unwrap_or_else(|error| panic!("acquire of {resources} failed: {error}"))
    }

    async fn release(&self, resources: &Resources, value: &LockValue) -> Vote {
        let answer = self.0.release(resources, value).await;
        answer.unwrap_or_else(|error| panic!("release of {resources} failed: {error}"))
    }

    async fn extend(&self, resources: &Resources, value: &LockValue, ttl: Duration) -> Vote {
        let answer = self.0.extend(resources, value, ttl).await;
        answer.unwrap_or_else(|error| panic!("extend of {resources} failed: {error}"))
    }

    /// Whether the node has what is optional; says so if a test is skipped.
    async fn can_inspect(&self) -> bool {
        let [name] = names();
        match self.0.inspect(&name).await {
            Err(error) if error.kind() == BackendErrorKind::Unsupported => {
                println!("skipped: the node cannot inspect: {error}");
                false
            }
            _ => true,
        }
    }

    async fn inspect(&self, resource: &str) -> Option<Holder> {
        let answer = self.0.inspect(resource).await;
        answer.unwrap_or_else(|error| panic!("clause 12: inspect of {resource} failed: {error}"))
    }

    /// Takes these and says with which value.
    async fn hold(&self, resources: &Resources, ttl: Duration) -> LockValue {
        let value = LockValue::random();
        let vote = self.acquire(resources, &value, ttl).await;
        assert_eq!(vote, Vote::Granted, "clause 1: {resources} is free");
        value
    }

    /// Whether somebody else could take all of these now.
    async fn finds_free(&self, resources: &Resources) -> bool {
        let value = LockValue::random();
        let free = self.acquire(resources, &value, LONG).await == Vote::Granted;
        if free {
            let released = self.release(resources, &value).await;
            assert_eq!(released, Vote::Granted, "clause 4: {resources} was ours");
        }
        free
    }

    /// Waits until somebody else can take these; false if that never comes.
    async fn finds_free_in_time(&self, resources: &Resources) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.finds_free(resources).await {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

/// Names that no other test uses, and that a cluster keeps together.
fn names<const N: usize>() -> [String; N] {
    let tag = LockValue::random();
    std::array::from_fn(|number| format!("{{conformance-{}}}:{number}", tag.as_str()))
}

fn set<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Resources {
    Resources::new(names).expect("names that can be locked")
}

/// Tests all of these at once, as most of the time is spent waiting.
async fn each<T>(cases: impl IntoIterator<Item = T>, clause: impl AsyncFn(T)) {
    join_all(cases.into_iter().map(|case| clause(case))).await;
}

/// One resource, and three.
fn small_and_large() -> [Resources; 2] {
    [set(names::<1>()), set(names::<3>())]
}
