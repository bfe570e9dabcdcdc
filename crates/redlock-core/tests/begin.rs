//! Backends whose votes nobody awaits.

mod common;

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use common::{TTL, eventually, ms};
use redlock_core::{
    BackendError, Error, LockBackend, LockValue, MemoryBackend, Redlock, Reply, Resources, Vote,
};
use tokio::time::{Instant, sleep, timeout};

/// A node that does at once what it is asked, and answers when the test says so.
#[derive(Clone, Debug)]
struct Late(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: MemoryBackend,
    /// What has been done and not yet answered.
    begun: Mutex<Vec<(Reply, Result<Vote, BackendError>)>>,
    /// Acquires that have not landed yet.
    behind: Mutex<Vec<(Resources, LockValue, Reply)>>,
    mode: Mutex<Mode>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    #[default]
    AtOnce,
    /// Everything is done at once and answered later.
    Held,
    /// An acquire lands only when it is answered.
    LandsLate,
    Lost,
    Panics,
    /// A release is neither done nor answered.
    Stuck,
}

impl Late {
    fn new() -> Self {
        Self(Arc::new(Inner {
            node: MemoryBackend::new(),
            begun: Mutex::default(),
            behind: Mutex::default(),
            mode: Mutex::default(),
        }))
    }

    fn mode(&self, mode: Mode) {
        *self.0.mode.lock().unwrap() = mode;
    }

    fn answer(&self) {
        for (reply, answer) in mem::take(&mut *self.0.begun.lock().unwrap()) {
            reply.answer(answer);
        }
    }

    async fn land(&self) {
        for (reply, answer) in self.land_unanswered().await {
            reply.answer(answer);
        }
    }

    async fn land_unanswered(&self) -> Vec<(Reply, Result<Vote, BackendError>)> {
        let mut landed = Vec::new();
        let behind = mem::take(&mut *self.0.behind.lock().unwrap());
        for (resources, value, reply) in behind {
            let answer = self.0.node.acquire(&resources, &value, TTL).await;
            landed.push((reply, answer));
        }
        landed
    }

    fn tell(&self, reply: Reply, answer: Result<Vote, BackendError>) {
        let mode = *self.0.mode.lock().unwrap();
        match mode {
            Mode::AtOnce => reply.answer(answer),
            Mode::Held | Mode::LandsLate => self.0.begun.lock().unwrap().push((reply, answer)),
            Mode::Lost => drop(reply),
            Mode::Stuck => unreachable!("acquires are done before"),
            Mode::Panics => panic!("as the test wants it"),
        }
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("memory answers at once")
}

#[async_trait]
impl LockBackend for Late {
    async fn acquire(
        &self,
        _: &Resources,
        _: &LockValue,
        _: Duration,
    ) -> Result<Vote, BackendError> {
        unreachable!("it is begun")
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        self.0.node.release(resources, value).await
    }

    async fn extend(
        &self,
        _: &Resources,
        _: &LockValue,
        _: Duration,
    ) -> Result<Vote, BackendError> {
        unreachable!("nothing is extended")
    }

    fn begin_acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        reply: Reply,
    ) -> Result<(), Reply> {
        if *self.0.mode.lock().unwrap() == Mode::LandsLate {
            let late = (resources.clone(), value.clone(), reply);
            self.0.behind.lock().unwrap().push(late);
            return Ok(());
        }
        let answer = now(self.0.node.acquire(resources, value, ttl));
        self.tell(reply, answer);
        Ok(())
    }

    fn begin_release(
        &self,
        resources: &Resources,
        value: &LockValue,
        reply: Reply,
    ) -> Result<(), Reply> {
        if *self.0.mode.lock().unwrap() == Mode::Stuck {
            let unknown = Err(BackendError::timeout());
            self.0.begun.lock().unwrap().push((reply, unknown));
            return Ok(());
        }
        let answer = now(self.0.node.release(resources, value));
        if *self.0.mode.lock().unwrap() == Mode::LandsLate {
            reply.answer(answer);
            return Ok(());
        }
        self.tell(reply, answer);
        Ok(())
    }
}

fn nodes() -> ([Late; 3], Redlock) {
    let nodes = [(); 3].map(|()| Late::new());
    let redlock = Redlock::builder(nodes.clone()).retry_count(0);
    (nodes, redlock.build().expect("three nodes"))
}

fn holding(nodes: &[Late]) -> usize {
    nodes.iter().map(|node| node.0.node.held()).sum()
}

#[tokio::test(start_paused = true)]
async fn votes_that_nobody_awaits_grant_and_release() {
    let (nodes, redlock) = nodes();
    let lock = redlock.acquire("a", TTL).await.unwrap();
    assert_eq!(lock.votes().granted(), 3);
    assert_eq!(holding(&nodes), 3);
    assert!(matches!(
        redlock.acquire("a", TTL).await,
        Err(Error::Locked(_))
    ));
    lock.release().await.unwrap();
    assert_eq!(holding(&nodes), 0);
}

#[tokio::test(start_paused = true)]
async fn a_quorum_decides_when_it_has_answered_and_not_before() {
    let (nodes, redlock) = nodes();
    nodes.iter().for_each(|node| node.mode(Mode::Held));
    let mut acquiring = Box::pin(redlock.acquire("a", TTL));
    for node in &nodes[..2] {
        assert!(timeout(ms(1), &mut acquiring).await.is_err());
        node.answer();
    }
    let lock = acquiring.await.unwrap();
    nodes.iter().for_each(|node| node.mode(Mode::AtOnce));
    nodes[2].answer();
    lock.release().await.unwrap();
    assert_eq!(holding(&nodes), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_costs_its_vote_and_an_attempt_that_fails_waits_for_those_that_answered() {
    let (nodes, redlock) = nodes();
    nodes[1].mode(Mode::Held);
    redlock
        .acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    nodes[2].mode(Mode::Held);
    let start = Instant::now();
    let error = redlock.acquire("b", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert!(start.elapsed() <= ms(501), "{:?}", start.elapsed());
    assert_eq!(nodes[0].0.node.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_lost_and_a_panic_are_failures() {
    for mode in [Mode::Lost, Mode::Panics] {
        let (nodes, redlock) = nodes();
        nodes[..2].iter().for_each(|node| node.mode(mode));
        let error = redlock.acquire("a", TTL).await.unwrap_err();
        assert!(matches!(error, Error::NoQuorum(_)), "{error}");
        assert!(
            error.to_string().contains("the backend gave no answer"),
            "{error}"
        );
        nodes.iter().for_each(|node| node.mode(Mode::AtOnce));
        // What they took is released, awaited, in the background.
        eventually("released", || holding(&nodes) == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_lands_behind_its_release_is_released_once_more() {
    let (nodes, redlock) = nodes();
    nodes[2].mode(Mode::LandsLate);
    let lock = redlock.acquire("a", TTL).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(holding(&nodes), 0);
    nodes[2].land().await;
    assert_eq!(holding(&nodes), 1);
    eventually("released once more", || holding(&nodes) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_releases_what_lands_later() {
    let (nodes, redlock) = nodes();
    nodes.iter().for_each(|node| node.mode(Mode::LandsLate));
    assert!(timeout(ms(1), redlock.acquire("a", TTL)).await.is_err());
    for node in &nodes {
        node.land().await;
    }
    eventually("released", || holding(&nodes) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_does_not_wait_for_an_answer_that_never_comes() {
    let nodes = [(); 3].map(|()| Late::new());
    let redlock = Redlock::builder(nodes.clone()).cleanup_timeout(ms(500));
    let redlock = redlock.build().unwrap();
    nodes[2].mode(Mode::LandsLate);
    let lock = redlock.acquire("a", TTL).await.unwrap();
    lock.release().await.unwrap();
    let _unanswered = nodes[2].land_unanswered().await;
    assert_eq!(holding(&nodes), 1);
    eventually("released", || holding(&nodes) == 0).await;
}

#[test]
fn a_release_goes_on_though_the_runtime_ends_on_which_its_failure_is_told() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    };
    // The connection is read on the one, the lock is released on the other.
    let (reads, uses) = (runtime(), runtime());
    let (nodes, redlock) = nodes();
    uses.block_on(async {
        let lock = redlock.acquire("a", TTL).await.unwrap();
        nodes.iter().for_each(|node| node.mode(Mode::Stuck));
        let releasing = tokio::spawn(lock.release());
        eventually("asked", || {
            nodes.iter().all(|it| it.0.begun.lock().unwrap().len() == 1)
        })
        .await;
        nodes.iter().for_each(|node| node.mode(Mode::AtOnce));
        for node in nodes.clone() {
            let begun = mem::take(&mut *node.0.begun.lock().unwrap());
            reads.spawn(async move {
                let _begun = begun;
                std::future::pending::<()>().await;
            });
        }
        reads.shutdown_background();
        let released = timeout(ms(100), releasing).await;
        eventually("released", || holding(&nodes) == 0).await;
        released.expect("at once").expect("no panic").unwrap_err();
    });
}

#[tokio::test(start_paused = true)]
async fn what_lands_when_the_release_has_given_up_is_released_all_the_same() {
    let nodes = [(); 3].map(|()| Late::new());
    let redlock = Redlock::builder(nodes.clone()).cleanup_timeout(ms(500));
    let redlock = redlock.build().unwrap();
    nodes[2].mode(Mode::LandsLate);
    let lock = redlock.acquire("a", TTL).await.unwrap();
    lock.release().await.unwrap();
    sleep(ms(3_000)).await;
    nodes[2].land().await;
    assert_eq!(holding(&nodes), 1);
    eventually("released", || holding(&nodes) == 0).await;
}
