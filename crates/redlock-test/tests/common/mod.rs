//! The kit against nodes that break a clause.

use std::{fmt, panic::AssertUnwindSafe};

use futures_util::{FutureExt, future::LocalBoxFuture};
use redlock_test::conformance::Subject;

/// A test of the kit, with its name.
pub type Clause = (&'static str, fn(Subject) -> LocalBoxFuture<'static, ()>);

/// The test of this name.
#[macro_export]
macro_rules! clause {
    ($clause:ident) => {
        (stringify!($clause), |subject| {
            ::futures_util::FutureExt::boxed_local(::redlock_test::conformance::$clause(subject))
        })
    };
}

/// Whether the test rejects this node.
#[allow(dead_code, reason = "not every test file uses all of it")]
pub async fn rejects((_, clause): Clause, node: Subject) -> bool {
    AssertUnwindSafe(clause(node)).catch_unwind().await.is_err()
}

/// Asserts that each fault is found by the test that is to find it, which the node without a fault passes.
pub async fn assert_each_is_rejected<W: Copy + fmt::Debug>(
    faults: &[W],
    clause_against: impl Fn(W) -> Clause,
    node: impl Fn(Option<W>) -> Subject,
) {
    for wrong in faults {
        let clause = clause_against(*wrong);
        let (name, test) = clause;
        test(node(None)).await;
        let rejected = rejects(clause, node(Some(*wrong))).await;
        assert!(rejected, "{wrong:?} passes {name}");
    }
}
