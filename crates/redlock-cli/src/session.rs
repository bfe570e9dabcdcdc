//! What every command that reaches the nodes does before and after.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use redlock::{Fencing, LockBackend, Redlock, RedlockBuilder};
use tokio::{
    runtime::Builder,
    time::{sleep, timeout},
};

use crate::{
    cli::Global,
    config,
    exit::{Code, Failure},
    node::Node,
};

/// For how long we do not exit because of what still goes on in the background; a ttl frees the rest.
const CLEAN_UP: Duration = Duration::from_secs(1);

/// Runs the work on the configured nodes, and lets what it has begun come to its end.
pub(crate) fn run(
    global: &Global,
    settings: impl FnOnce(RedlockBuilder) -> RedlockBuilder,
    work: impl AsyncFnOnce(Redlock) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    run_on(backends(config::read(global)?.nodes), settings, work)
}

/// The same for who acquires locks: with fencing tokens if they are wanted here, or configured.
pub(crate) fn run_acquiring(
    global: &Global,
    fencing: bool,
    settings: impl FnOnce(RedlockBuilder) -> RedlockBuilder,
    work: impl AsyncFnOnce(Redlock) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let config = config::read(global)?;
    let fenced = |builder: RedlockBuilder| {
        if fencing || config.fencing {
            builder.fencing(Fencing::new())
        } else {
            builder
        }
    };
    let settings = |builder| settings(fenced(builder));
    run_on(backends(config.nodes), settings, work)
}

/// The same on these nodes.
pub(crate) fn run_on(
    nodes: Vec<Arc<dyn LockBackend>>,
    settings: impl FnOnce(RedlockBuilder) -> RedlockBuilder,
    work: impl AsyncFnOnce(Redlock) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let in_use: Vec<_> = nodes.iter().map(Arc::downgrade).collect();
    let redlock = settings(Redlock::builder(nodes)).build()?;
    block_on(async {
        let outcome = work(redlock).await;
        let _ = timeout(CLEAN_UP, rest(&in_use)).await;
        outcome
    })?
}

/// Runs the future to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Code::System, error))?;
    Ok(runtime.block_on(work))
}

/// The nodes as the library asks them.
pub(crate) fn backends(nodes: Vec<Node>) -> Vec<Arc<dyn LockBackend>> {
    nodes.into_iter().map(|node| node.backend).collect()
}

/// Waits until nobody asks the nodes for anything any more.
async fn rest(in_use: &[Weak<dyn LockBackend>]) {
    while in_use.iter().any(|node| node.strong_count() > 0) {
        sleep(Duration::from_millis(1)).await;
    }
}
