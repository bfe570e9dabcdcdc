//! Fencing tokens, on the paused clock.

mod common;

use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use common::*;
use redlock_core::{
    BackendError, BackendErrorKind, Error, Fencing, FencingToken, InvalidRequest, LockBackend,
    LockValue, NextToken, Proposal, Redlock, Resources, Vote,
};
use redlock_test::{Fault, Operation};
use tokio::time::sleep;

const HOUR: Duration = Duration::from_secs(3600);

/// Fencing by a clock that is so far ahead of, or behind, the others.
#[expect(clippy::disallowed_types, reason = "it is the clock of a client")]
fn clock_off_by(ahead: Duration, behind: Duration) -> Fencing {
    let start = (std::time::SystemTime::now(), tokio::time::Instant::now());
    Fencing::new().clock(move || start.0 + start.1.elapsed() + ahead - behind)
}

fn fenced(nodes: &[Node], fencing: Fencing) -> Redlock {
    builder(nodes).fencing(fencing).build().unwrap()
}

async fn token_of(redlock: &Redlock, resource: &str) -> FencingToken {
    let lock = redlock
        .try_acquire(resource, TTL)
        .await
        .expect("it is free");
    let token = lock.fencing_token().expect("a fenced lock");
    lock.release().await.expect("it is ours");
    // No two clients of real nodes come within the same microsecond.
    sleep(ms(1)).await;
    token
}

/// How many acquires the nodes were asked for.
fn asked(nodes: &[Node]) -> usize {
    nodes
        .iter()
        .map(|node| node.count(Operation::Acquire))
        .sum()
}

#[tokio::test(start_paused = true)]
async fn every_acquisition_has_a_greater_token_than_those_before_it() {
    let nodes = nodes(5);
    let [one, two] = [(); 2].map(|()| fenced(&nodes, Fencing::new()));
    let mut last = FencingToken::new(0);
    for redlock in [&one, &two, &one, &one, &two] {
        let token = token_of(redlock, "a").await;
        assert!(token > last, "{token} after {last}");
        last = token;
    }
    assert!(last < FencingToken::MAX);
    let plain = redlock(&nodes).acquire("a", TTL).await.unwrap();
    assert_eq!(plain.fencing_token(), None);
}

#[tokio::test(start_paused = true)]
async fn an_uncontended_acquisition_takes_one_round() {
    let nodes = nodes(5);
    let redlock = fenced(&nodes, Fencing::new());
    for _ in 0..10 {
        token_of(&redlock, "a").await;
    }
    assert_eq!(asked(&nodes), 50);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_clock_is_off_is_refused_once_and_then_knows() {
    for (ahead, behind) in [(HOUR, Duration::ZERO), (Duration::ZERO, HOUR)] {
        let nodes = nodes(5);
        let right = fenced(&nodes, Fencing::new());
        let wrong = fenced(&nodes, clock_off_by(ahead, behind));
        let first = token_of(&right, "a").await;
        let before = asked(&nodes);
        let second = token_of(&wrong, "a").await;
        assert!(second > first);
        assert_eq!(asked(&nodes) - before, 10, "two rounds");
        assert!(
            second.get() - first.get() < 60_000_000,
            "within a minute: {second} {first}"
        );
        for resource in ["a", "b"] {
            let before = asked(&nodes);
            let by_wrong = token_of(&wrong, resource).await;
            let by_right = token_of(&right, resource).await;
            assert!(by_right > by_wrong);
            assert_eq!(asked(&nodes) - before, 10, "one round each");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_rise_whichever_minority_of_nodes_is_down_and_whoevers_clock_is_off() {
    let nodes = nodes(5);
    let clients = [
        fenced(&nodes, Fencing::new()),
        fenced(&nodes, clock_off_by(HOUR, Duration::ZERO)),
        fenced(&nodes, clock_off_by(Duration::ZERO, HOUR)),
    ];
    let mut last = FencingToken::new(0);
    for one in 0..5 {
        for other in 0..5 {
            for down in [one, other] {
                nodes[down].on_all(Fault::Down);
            }
            for client in &clients {
                let token = token_of(client, "a").await;
                assert!(token > last, "{token} after {last}");
                last = token;
            }
            for node in &nodes {
                node.heal();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_of_several_resources_is_above_the_fences_of_all() {
    let nodes = nodes(3);
    let ahead = fenced(&nodes, clock_off_by(ms(900), Duration::ZERO));
    let redlock = fenced(&nodes, Fencing::new());
    let high = token_of(&ahead, "b").await;
    let both = redlock.try_acquire(["a", "b"], TTL).await.unwrap();
    assert!(both.fencing_token() > Some(high));
}

#[tokio::test(start_paused = true)]
async fn a_held_resource_is_locked_and_not_proposed_for_again() {
    let nodes = nodes(3);
    let redlock = fenced(&nodes, Fencing::new());
    let _held = redlock.acquire("a", TTL).await.unwrap();
    let before = asked(&nodes);
    let refused = redlock.try_acquire("a", TTL).await;
    assert!(matches!(refused, Err(Error::Locked(_))));
    assert_eq!(asked(&nodes) - before, 3);
}

#[tokio::test(start_paused = true)]
async fn a_fence_is_remembered_for_its_lifetime_and_its_loss_does_no_harm() {
    let nodes = nodes(3);
    let ahead = Fencing::new().keep_for(HOUR);
    let redlock = fenced(&nodes, ahead);
    let behind = fenced(&nodes, clock_off_by(Duration::ZERO, 2 * HOUR));
    let first = token_of(&redlock, "a").await;
    sleep(HOUR + TTL).await;
    let second = token_of(&behind, "a").await;
    assert!(second > first, "the node's own clock sees to it");
}

#[tokio::test(start_paused = true)]
async fn whoever_keeps_the_lock_knows_its_token_and_who_adopts_it_does_not() {
    let nodes = nodes(3);
    let redlock = fenced(&nodes, Fencing::new());
    let lock = redlock.acquire("a", TTL).await.unwrap();
    let token = lock.fencing_token();
    assert!(token.is_some());
    let kept = lock.keep_alive();
    assert_eq!(kept.fencing_token(), token);
    assert_eq!(kept.signal().fencing_token(), token);
    kept.release().await.unwrap();
    let told = redlock.using("a", TTL, async |signal| signal.fencing_token());
    assert!(told.await.unwrap() > token);
    let value = redlock.acquire("a", TTL).await.unwrap().leak();
    let adopted = redlock.adopt("a", value, TTL).await.unwrap();
    assert_eq!(adopted.fencing_token(), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_healed_votes_for_tokens_again() {
    let nodes = nodes(3);
    let redlock = fenced(&nodes, Fencing::new());
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    eventually("all hold it", || holding(&nodes, "a") == 3).await;
    nodes[0].inner().forget();
    lock.extend(TTL).await.unwrap();
    eventually("healed", || holding(&nodes, "a") == 3).await;
    let first = lock.fencing_token();
    lock.release().await.unwrap();
    nodes[1].on_all(Fault::Down);
    assert!(Some(token_of(&redlock, "a").await) > first);
}

/// A node without fencing tokens.
#[derive(Debug)]
struct Plain;

#[async_trait]
impl LockBackend for Plain {
    async fn acquire(
        &self,
        _: &Resources,
        _: &LockValue,
        _: Duration,
    ) -> Result<Vote, BackendError> {
        Ok(Vote::Granted)
    }

    async fn release(&self, _: &Resources, _: &LockValue) -> Result<Vote, BackendError> {
        Ok(Vote::Granted)
    }

    async fn extend(
        &self,
        _: &Resources,
        _: &LockValue,
        _: Duration,
    ) -> Result<Vote, BackendError> {
        Ok(Vote::Granted)
    }

    fn max_ttl(&self) -> Option<Duration> {
        Some(TTL)
    }
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused_when_it_is_built() {
    let unsupported = Redlock::builder([Plain]).fencing(Fencing::new()).build();
    assert_eq!(
        unsupported.unwrap_err(),
        InvalidRequest::FencingUnsupported("node 1".into())
    );
    let short = builder(&nodes(1))
        .fencing(Fencing::new().keep_for(TTL))
        .build();
    assert_eq!(short.unwrap_err(), InvalidRequest::FenceLifetime(TTL));
    let endless = Fencing::new().keep_for(Duration::MAX);
    let error = builder(&nodes(1)).fencing(endless).build().unwrap_err();
    assert_eq!(error, InvalidRequest::FenceLifetime(Duration::MAX));
    let proposal = Proposal::new(FencingToken::new(1), None);
    let resources = Resources::new(["a"]).unwrap();
    let value = LockValue::random();
    let asked = Plain.acquire_fenced(&resources, &value, TTL, proposal);
    let error = asked.await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_beyond_a_nodes_guard_is_refused_before_anything_is_sent() {
    let redlock = Redlock::new([Plain]).unwrap();
    let beyond = |outcome: Result<(), Error>| {
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, Error::Invalid(InvalidRequest::TtlBeyondGuard { .. })),
            "{error}"
        );
    };
    beyond(redlock.acquire("a", TTL + ms(1)).await.map(drop));
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    beyond(lock.extend(TTL + ms(1)).await);
    let value = lock.leak();
    beyond(redlock.extend("a", value, TTL + ms(1)).await.map(drop));
}

/// Refuses the first tokens that it is asked for.
#[derive(Debug)]
struct Rising(AtomicU64);

#[async_trait]
impl LockBackend for Rising {
    async fn acquire(
        &self,
        _: &Resources,
        _: &LockValue,
        _: Duration,
    ) -> Result<Vote, BackendError> {
        unreachable!("all acquires are fenced")
    }

    async fn acquire_fenced(
        &self,
        _: &Resources,
        _: &LockValue,
        _: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let next = proposal.token().get() + 1;
        self.0.fetch_add(1, Ordering::Relaxed);
        let next = NextToken::Fence(FencingToken::new(next));
        Err(BackendError::token_refused(next))
    }

    fn supports_fencing(&self) -> bool {
        true
    }

    async fn release(&self, _: &Resources, _: &LockValue) -> Result<Vote, BackendError> {
        Ok(Vote::Refused)
    }

    async fn extend(
        &self,
        _: &Resources,
        _: &LockValue,
        _: Duration,
    ) -> Result<Vote, BackendError> {
        unreachable!("nothing is held")
    }
}

#[tokio::test(start_paused = true)]
async fn proposals_end_when_others_are_always_ahead() {
    let node = Arc::new(Rising(AtomicU64::new(0)));
    let redlock = Redlock::builder([Arc::clone(&node)])
        .fencing(Fencing::new())
        .build()
        .unwrap();
    let error = redlock.try_acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::Locked(_)), "{error}");
    assert!(
        error.to_string().contains("fencing token refused"),
        "{error}"
    );
    assert_eq!(node.0.load(Ordering::Relaxed), 3);
}
