//! Settings, and which futures can be sent between threads.

mod common;

use std::{sync::Arc, time::Duration};

use common::*;
use redlock_core::{
    BackendError, Error, InvalidRequest, KeptLock, Lock, LockBackend, LockValue, LostSignal,
    MemoryBackend, NodeVote, Redlock, RedlockBuilder, Resources, UsingError, Votes,
    telemetry::Event,
};
use static_assertions::assert_impl_all;

#[test]
fn settings_that_make_no_sense_are_refused_when_it_is_built() {
    let node = MemoryBackend::new();
    let nothing: [MemoryBackend; 0] = [];
    assert_eq!(Redlock::new(nothing).unwrap_err(), InvalidRequest::NoNodes);
    assert_eq!(
        Redlock::new([node.clone(), MemoryBackend::new(), node.clone()]).unwrap_err(),
        InvalidRequest::DuplicateNode(node.name().unwrap().into_owned())
    );
    for factor in [-0.01, 1.0, 2.0, f64::INFINITY] {
        let built = Redlock::builder([node.clone()])
            .drift_factor(factor)
            .build();
        assert_eq!(built.unwrap_err(), InvalidRequest::DriftFactor(factor));
    }
    assert!(
        Redlock::builder([node.clone()])
            .drift_factor(f64::NAN)
            .build()
            .is_err()
    );
    for builder in [
        Redlock::builder([node.clone()]).node_timeout(Duration::ZERO),
        Redlock::builder([node.clone()]).cleanup_timeout(Duration::ZERO),
    ] {
        assert!(matches!(
            builder.build(),
            Err(InvalidRequest::ZeroTimeout(_))
        ));
    }
    let error = Redlock::builder([node])
        .drift_factor(1.5)
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the drift factor must be at least 0 and below 1, not 1.5"
    );
}

#[tokio::test(start_paused = true)]
async fn nodes_of_different_types_make_one_redlock() {
    let faulty = nodes(1).remove(0);
    let memory: Arc<dyn LockBackend> = Arc::new(MemoryBackend::new());
    let mixed: [Arc<dyn LockBackend>; 2] = [Arc::new(faulty), memory];
    let redlock = Redlock::builder(mixed)
        .node(MemoryBackend::new())
        .build()
        .unwrap();
    assert_eq!(redlock.nodes().len(), 3);
    assert_eq!(redlock.quorum(), 2);
    redlock
        .acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
}

#[tokio::test]
async fn debug_shows_no_lock_value() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let lock = redlock.acquire("a", TTL).await.unwrap();
    let shown = format!("{redlock:?} {lock:?} {nodes:?} {:?}", lock.value());
    assert!(!shown.contains(lock.value().as_str()), "{shown}");
}

assert_impl_all!(Redlock: Send, Sync, Clone, Unpin, std::fmt::Debug);
assert_impl_all!(RedlockBuilder: Send, Sync, Clone, std::fmt::Debug);
assert_impl_all!(Lock: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(KeptLock: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(LostSignal: Send, Sync, Clone, Unpin, std::fmt::Debug);
assert_impl_all!(Event: Send, Sync, Clone, std::fmt::Debug);
assert_impl_all!(UsingError<()>: Send, Sync, std::error::Error);
assert_impl_all!(Error: Send, Sync, Clone, std::error::Error);
assert_impl_all!(Votes: Send, Sync, Clone, std::fmt::Display);
assert_impl_all!(NodeVote<'static>: Send, Sync, Clone, std::fmt::Display);
assert_impl_all!(BackendError: Send, Sync, Clone, std::error::Error);
assert_impl_all!(LockValue: Send, Sync, Clone);
assert_impl_all!(Resources: Send, Sync, Clone, std::fmt::Display);
assert_impl_all!(dyn LockBackend: Send, Sync, std::fmt::Debug);

#[test]
fn the_future_of_every_async_method_is_send() {
    fn send<T: Send>(_: T) {}

    /// Compiled, never run.
    #[expect(dead_code)]
    fn table(redlock: &Redlock, mut lock: Lock, value: &LockValue) {
        let ttl = TTL;
        send(redlock.acquire("a", ttl));
        send(redlock.acquire(vec![String::new()], ttl));
        send(redlock.try_acquire(["a", "b"], ttl));
        send(redlock.acquire_with_retry("a", ttl, [ttl]));
        send(redlock.acquire_with_retry("a", ttl, |attempt: u32| TTL * attempt));
        send(redlock.extend("a", value.clone(), ttl));
        send(redlock.adopt("a", value.clone(), ttl));
        send(redlock.release("a", value.clone()));
        send(redlock.using("a", ttl, async |signal| signal.lost().await));
        send(lock.extend(ttl));
        send(async move {
            let kept = lock.keep_alive();
            let signal = kept.signal();
            signal.lost().await;
            let _ = signal.run_until_lost(std::future::ready(())).await;
            kept.release().await
        });
    }
}
