//! Taking a lock while nodes are slow, hung, down or held, on the paused clock.

mod common;

use std::{collections::HashSet, iter, time::Duration};

use common::*;
use redlock_core::{
    BackendErrorKind, Error, InvalidRequest, LockBackend, LockValue, NodeVote, Resources, Vote,
};
use redlock_test::{Fault, Operation};
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn a_free_resource_is_taken_on_all_nodes_with_a_full_validity() {
    let nodes = nodes(5);
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    assert_eq!(lock.validity(), ms(9_898), "ttl - (ttl * 0.01 + 2 ms)");
    assert_eq!(&lock.resources()[..], ["a"]);
    eventually("all hold it", || holding(&nodes, "a") == 5).await;
    for node in &nodes {
        assert_eq!(node.inner().holder("a").as_ref(), Some(lock.value()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_resource_is_refused_as_locked_and_free_after_its_ttl() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let value = redlock.acquire("a", TTL).await.unwrap().leak();
    assert!(matches!(
        redlock.try_acquire("a", TTL).await,
        Err(Error::Locked(_))
    ));
    sleep(TTL).await;
    let lock = redlock.try_acquire("a", TTL).await.unwrap();
    assert_ne!(lock.value(), &value);
}

#[tokio::test(start_paused = true)]
async fn several_resources_are_taken_all_or_none() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let held = redlock.acquire("b", TTL).await.unwrap();
    assert!(matches!(
        redlock.try_acquire(["a", "b"], TTL).await,
        Err(Error::Locked(_))
    ));
    assert_eq!(holding(&nodes, "a"), 0);
    held.release().await.unwrap();
    eventually("released", || holding(&nodes, "b") == 0).await;
    let both = redlock.try_acquire(["b", "a"], TTL).await.unwrap();
    assert!(matches!(
        redlock.try_acquire("a", TTL).await,
        Err(Error::Locked(_))
    ));
    both.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_attempt_has_a_fresh_value_and_the_whole_ttl() {
    let nodes = nodes(3);
    let _held = redlock(&nodes).acquire("a", TTL * 10).await.unwrap();
    let acquires = || {
        let calls = nodes.iter().flat_map(Node::calls);
        calls.filter(|call| call.operation == Operation::Acquire)
    };
    let before = acquires().count();
    let patient = builder(&nodes).retry_count(5).build().unwrap();
    assert!(patient.acquire("a", TTL).await.is_err());
    let asked: Vec<_> = acquires().collect();
    let values: HashSet<_> = asked.iter().map(|call| &call.value).collect();
    assert!(
        asked.len() > before && values.len() > 6,
        "one attempt and five retries, and before them one"
    );
    for node in &nodes {
        let calls = node.calls().into_iter();
        let calls = calls.filter(|call| call.operation == Operation::Acquire);
        let values: Vec<_> = calls.map(|call| call.value).collect();
        let different: HashSet<_> = values.iter().collect();
        assert_eq!(values.len(), different.len());
    }
    let mut asked = asked.iter().filter(|call| call.ttl != Some(TTL * 10));
    assert!(asked.all(|call| call.ttl == Some(TTL)));
}

#[tokio::test(start_paused = true)]
async fn a_lock_granted_too_late_is_not_handed_out_and_not_kept() {
    let nodes = nodes(3);
    for node in &nodes {
        node.on(Operation::Acquire, late(195));
    }
    let redlock = builder(&nodes).node_timeout(ms(600)).build().unwrap();
    // 200 ms less 4 ms of drift: the grants come after 195 ms, when 1 ms of validity is left.
    let lock = redlock.try_acquire("a", ms(200)).await.unwrap();
    assert_eq!(lock.validity(), ms(1));
    drop(lock);
    for node in &nodes {
        node.on(Operation::Acquire, late(197));
    }
    let error = redlock.try_acquire("b", ms(200)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Late(votes) if votes.granted() == 3),
        "{error}"
    );
    eventually("undone", || holding(&nodes, "b") == 0).await;
    assert!(nodes.iter().all(|node| node.count(Operation::Release) == 2));
}

#[tokio::test(start_paused = true)]
async fn a_tie_of_two_or_four_nodes_is_refused_and_never_hangs() {
    for count in [2, 4] {
        let nodes = nodes(count);
        for node in &nodes[..count / 2] {
            node.on(Operation::Acquire, Fault::Refuse);
        }
        let error = redlock(&nodes).try_acquire("a", TTL).await.unwrap_err();
        assert!(matches!(error, Error::Locked(_)), "{error}");
        assert_eq!(holding(&nodes, "a"), 0, "the loser's votes do not stay");
    }
}

#[tokio::test(start_paused = true)]
async fn a_losers_minority_is_gone_when_its_attempt_has_failed() {
    let nodes = nodes(5);
    for node in &nodes[..3] {
        node.on(Operation::Acquire, Fault::Refuse);
    }
    let redlock = redlock(&nodes);
    for round in 0..10 {
        assert!(redlock.try_acquire("a", TTL).await.is_err());
        let released = |node: &Node| node.count(Operation::Release) == round + 1;
        eventually("all are asked to release", || nodes.iter().all(released)).await;
        assert_eq!(holding(&nodes, "a"), 0);
    }
    nodes.iter().for_each(Node::heal);
    drop(redlock.try_acquire("a", TTL).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_undone_on_all_nodes_also_those_that_failed_or_timed_out() {
    let nodes = nodes(5);
    nodes[0].on(
        Operation::Acquire,
        Fault::FailAfter(BackendErrorKind::Unreachable),
    );
    nodes[1].on(Operation::Acquire, Fault::LoseReply);
    nodes[2].on(
        Operation::Acquire,
        Fault::FailAfter(BackendErrorKind::Server),
    );
    nodes[3].on(
        Operation::Acquire,
        Fault::FailAfter(BackendErrorKind::Timeout),
    );
    let error = redlock(&nodes).try_acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    let released = |node: &Node| node.count(Operation::Release) >= 1;
    eventually("all are asked to release", || nodes.iter().all(released)).await;
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_repeated_until_the_node_can_be_reached() {
    let nodes = nodes(3);
    for node in &nodes {
        node.on(
            Operation::Acquire,
            Fault::FailAfter(BackendErrorKind::Timeout),
        );
        node.on(Operation::Release, Fault::Down);
    }
    assert!(redlock(&nodes).try_acquire("a", TTL).await.is_err());
    sleep(Duration::from_secs(3)).await;
    assert_eq!(holding(&nodes, "a"), 3);
    let asked = nodes[0].count(Operation::Release);
    assert!(
        (5..40).contains(&asked),
        "neither given up nor a busy loop: {asked}"
    );
    nodes.iter().for_each(Node::heal);
    let healed = Instant::now();
    eventually("undone", || holding(&nodes, "a") == 0).await;
    assert!(healed.elapsed() <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_on_a_node_that_was_never_reached() {
    let nodes = nodes(3);
    for node in &nodes {
        node.on_all(Fault::Down);
    }
    assert!(redlock(&nodes).try_acquire("a", TTL).await.is_err());
    sleep(TTL).await;
    assert!(nodes.iter().all(|node| node.count(Operation::Release) == 1));
}

#[tokio::test(start_paused = true)]
async fn a_release_never_overtakes_a_late_acquire_so_that_no_ghost_lock_stays() {
    let nodes = nodes(3);
    for node in &nodes {
        let fault = Fault::Delay {
            request: ms(800),
            reply: ms(50),
        };
        node.on(Operation::Acquire, fault);
    }
    let start = Instant::now();
    let error = redlock(&nodes).try_acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert_eq!(
        start.elapsed(),
        NODE_TIMEOUT,
        "the caller does not wait for it"
    );
    eventually("the late requests land", || holding(&nodes, "a") == 3).await;
    eventually("and are released when they do", || {
        holding(&nodes, "a") == 0
    })
    .await;
    assert!(start.elapsed() < ms(900));
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_of_a_successful_attempt_is_kept() {
    let nodes = nodes(3);
    nodes[2].on(Operation::Acquire, late(800));
    let lock = redlock(&nodes).try_acquire("a", TTL).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(holding(&nodes, "a"), 3);
    assert_eq!(nodes[2].count(Operation::Release), 0);
    lock.release().await.unwrap();
    eventually("released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_a_late_acquire_of_the_same_node() {
    let nodes = nodes(3);
    nodes[2].on(Operation::Acquire, late(800));
    let lock = redlock(&nodes).try_acquire("a", TTL).await.unwrap();
    lock.release().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        holding(&nodes, "a"),
        0,
        "the third node's key was set after the release returned"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hung_node_costs_only_its_vote() {
    let nodes = nodes(5);
    nodes[0].on_all(HUNG);
    nodes[3].on_all(HUNG);
    let start = Instant::now();
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    lock.extend(TTL).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_majority_of_hung_nodes_is_an_outage_after_the_node_timeout_and_the_retries() {
    let nodes = nodes(3);
    nodes[0].on_all(HUNG);
    nodes[1].on_all(HUNG);
    let redlock = builder(&nodes)
        .retry_count(2)
        .retry_jitter(Duration::ZERO)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = redlock.acquire("a", TTL).await.unwrap_err();
    assert!(
        matches!(&error, Error::NoQuorum(votes) if votes.failed() == 2),
        "{error}"
    );
    assert_eq!(start.elapsed(), NODE_TIMEOUT * 3 + ms(200) * 2);
    eventually("undone", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn one_refused_connection_is_no_failure() {
    let nodes = nodes(3);
    nodes[1].on_all(Fault::Down);
    redlock(&nodes)
        .try_acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_costs_only_its_vote() {
    let nodes = nodes(3);
    nodes[1].on_all(Fault::Panic);
    let lock = redlock(&nodes).try_acquire("a", TTL).await.unwrap();
    lock.release().await.unwrap();
    nodes[2].on_all(Fault::Panic);
    let error = redlock(&nodes).try_acquire("a", TTL).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn contention_and_outage_are_told_apart() {
    let nodes = nodes(5);
    let redlock = redlock(&nodes);
    nodes[0].on_all(Fault::Down);
    let _rival = redlock.acquire("a", TTL).await.unwrap();
    assert!(matches!(
        redlock.try_acquire("a", TTL).await,
        Err(Error::Locked(_))
    ));

    // One node down and a split vote: with the refusals granted it would have been a quorum.
    for node in &nodes[1..3] {
        node.on(Operation::Acquire, Fault::Refuse);
    }
    let error = redlock.try_acquire("b", TTL).await.unwrap_err();
    assert!(matches!(error, Error::Locked(_)), "{error}");

    for node in &nodes[..3] {
        node.on_all(Fault::Down);
    }
    let error = redlock.try_acquire("c", TTL).await.unwrap_err();
    let votes = error.votes().unwrap();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    let failed: Vec<_> = votes
        .iter()
        .filter(|vote| vote.answer().is_some_and(Result::is_err))
        .collect();
    assert_eq!(failed.len(), 3);
    assert_eq!(failed[0].node(), nodes[0].name().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_try_never_waits_and_an_acquire_does() {
    let nodes = nodes(3);
    let redlock = builder(&nodes).retry_count(10).build().unwrap();
    let _held = redlock.acquire("a", ms(500)).await.unwrap();
    let start = Instant::now();
    assert!(redlock.try_acquire("a", TTL).await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(redlock.acquire("a", TTL).await.unwrap());
    assert!(start.elapsed() >= ms(500));
}

#[tokio::test(start_paused = true)]
async fn the_defaults_are_three_retries_of_200_ms() {
    let nodes = nodes(3);
    let redlock = builder(&nodes)
        .retry_jitter(Duration::ZERO)
        .build()
        .unwrap();
    let _held = redlock.acquire("a", TTL).await.unwrap();
    let start = Instant::now();
    assert!(redlock.acquire("a", TTL).await.is_err());
    assert_eq!(start.elapsed(), ms(600));
}

#[tokio::test(start_paused = true)]
async fn retries_follow_an_iterator_or_a_function() {
    let nodes = nodes(3);
    let redlock = builder(&nodes).retry_count(4).build().unwrap();
    let _held = redlock.acquire("a", TTL * 100).await.unwrap();
    let start = Instant::now();
    assert!(
        redlock
            .acquire_with_retry("a", TTL, [ms(1), ms(20), ms(300)])
            .await
            .is_err()
    );
    assert_eq!(start.elapsed(), ms(321));

    let start = Instant::now();
    let by_attempt = |attempt: u32| ms(100) * attempt;
    assert!(
        redlock
            .acquire_with_retry("a", TTL, by_attempt)
            .await
            .is_err()
    );
    assert_eq!(
        start.elapsed(),
        ms(1_000),
        "100 + 200 + 300 + 400, then the retries end"
    );
}

#[tokio::test(start_paused = true)]
async fn max_wait_ends_even_endless_retries_and_the_error_says_why() {
    let nodes = nodes(3);
    for node in &nodes {
        node.on_all(Fault::Down);
    }
    let redlock = builder(&nodes).max_wait(ms(1_050)).build().unwrap();
    let start = Instant::now();
    let error = redlock
        .acquire_with_retry("a", TTL, iter::repeat(ms(100)))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::NoQuorum(votes) if votes.failed() >= 2),
        "{error}"
    );
    assert_eq!(
        start.elapsed(),
        ms(1_050),
        "with a last attempt at the limit"
    );
    assert_eq!(nodes[0].count(Operation::Acquire), 12);
}

#[tokio::test(start_paused = true)]
async fn extreme_delays_neither_panic_nor_wrap() {
    let nodes = nodes(1);
    let redlock = builder(&nodes)
        .retry_delay(Duration::MAX)
        .retry_jitter(Duration::MAX)
        .retry_count(u32::MAX)
        .node_timeout(Duration::MAX)
        .cleanup_timeout(Duration::MAX)
        .max_wait(Duration::MAX)
        .build()
        .unwrap();
    let lock = redlock
        .acquire("a", redlock_core::validity::MAX_TTL)
        .await
        .unwrap();
    assert!(lock.validity() > Duration::from_secs(1 << 40));
    let waiting = redlock.acquire("a", TTL);
    assert!(timeout(Duration::from_secs(3600), waiting).await.is_err());
    lock.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_at_any_moment_leaves_nothing_behind() {
    for dropped_after in (0..700).step_by(20) {
        let nodes = nodes(5);
        for (node, delay) in nodes.iter().zip([0, 90, 190, 290, 650]) {
            let fault = Fault::Delay {
                request: ms(delay),
                reply: ms(30),
            };
            node.on(Operation::Acquire, fault);
        }
        let redlock = redlock(&nodes);
        drop(timeout(ms(dropped_after), redlock.acquire("a", TTL)).await);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(holding(&nodes, "a"), 0, "dropped after {dropped_after} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_during_an_undo_does_not_stop_the_undo() {
    let nodes = nodes(3);
    nodes[0].on(Operation::Release, late(100));
    nodes[1].on(Operation::Acquire, Fault::Refuse);
    nodes[2].on(Operation::Acquire, Fault::Refuse);
    let redlock = redlock(&nodes);
    assert!(
        timeout(ms(50), redlock.try_acquire("a", TTL))
            .await
            .is_err()
    );
    assert_eq!(holding(&nodes, "a"), 1);
    eventually("undone", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_never_ends_is_dropped_after_the_cleanup_timeout() {
    let nodes = nodes(3);
    nodes[2].on(Operation::Acquire, Fault::LoseReply);
    let redlock = builder(&nodes).cleanup_timeout(ms(700)).build().unwrap();
    let lock = redlock.try_acquire("a", TTL).await.unwrap();
    lock.release().await.unwrap();
    let start = Instant::now();
    eventually("released all the same", || holding(&nodes, "a") == 0).await;
    assert!(start.elapsed() <= ms(710), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn requests_that_make_no_sense_send_nothing() {
    use InvalidRequest as I;

    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let no_names: [&str; 0] = [];
    let too_long = redlock_core::validity::MAX_TTL + Duration::from_nanos(1);
    let invalid = |result: Result<_, Error>| match result.map(redlock_core::Lock::leak) {
        Err(Error::Invalid(invalid)) => invalid,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        invalid(redlock.acquire(no_names, TTL).await),
        I::NoResources
    );
    assert_eq!(invalid(redlock.acquire("", TTL).await), I::EmptyResource);
    assert_eq!(
        invalid(redlock.acquire(["a", "a"], TTL).await),
        I::DuplicateResource("a".into())
    );
    for ttl in [Duration::ZERO, Duration::from_micros(999), ms(1), ms(2)] {
        let error = invalid(redlock.try_acquire("a", ttl).await);
        assert!(matches!(error, I::TtlTooShort { .. }), "{ttl:?}: {error}");
        let value = LockValue::random();
        assert!(matches!(
            redlock.extend("a", value, ttl).await,
            Err(Error::Invalid(I::TtlTooShort { .. }))
        ));
    }
    for ttl in [too_long, Duration::MAX] {
        let error = invalid(redlock.acquire_with_retry("a", ttl, [ms(1)]).await);
        assert_eq!(error, I::TtlTooLong(ttl));
    }
    assert!(matches!(
        redlock.release(no_names, LockValue::random()).await,
        Err(Error::Invalid(I::NoResources))
    ));
    assert!(nodes.iter().all(|node| node.calls().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn names_of_every_kind_are_just_names() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let long = "x".repeat(10_240);
    for name in [
        "a b",
        "schlüssel 🔑",
        "{tag}:1",
        "*",
        "a?[b]\\",
        "\n\0",
        &long,
    ] {
        let lock = redlock.try_acquire(name, TTL).await.unwrap();
        assert!(redlock.try_acquire(name, TTL).await.is_err());
        lock.release().await.unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_concurrent_acquires_of_free_and_of_one_contended_resource() {
    let nodes = nodes(3);
    let redlock = builder(&nodes).retry_count(0).build().unwrap();
    let tasks: Vec<_> = (0..10_000)
        .map(|number| {
            let redlock = redlock.clone();
            let name = if number % 2 == 0 {
                "same".into()
            } else {
                format!("r{number}")
            };
            tokio::spawn(async move {
                match redlock.acquire(name, Duration::from_secs(60)).await {
                    Ok(lock) => lock.release().await.map(|()| true),
                    Err(Error::Locked(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            })
        })
        .collect();
    let mut granted = 0;
    for task in tasks {
        granted += usize::from(task.await.unwrap().unwrap());
    }
    assert!(granted > 5_000, "{granted}");
    eventually("all released", || {
        nodes.iter().all(|node| node.inner().held() == 0)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_vote_of_a_node_says_how_long_it_took() {
    let nodes = nodes(3);
    nodes[0].on(Operation::Acquire, late(7));
    nodes[1].on(Operation::Acquire, late(30));
    nodes[2].on(Operation::Acquire, HUNG);
    let lock = redlock(&nodes).try_acquire("a", TTL).await.unwrap();
    let took: Vec<_> = lock.votes().iter().map(NodeVote::took).collect();
    assert_eq!(took, [ms(7), ms(30), Duration::ZERO]);
    assert!(lock.votes().iter().nth(2).unwrap().answer().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_lock_these_resources_is_told_before_anything_is_sent() {
    #[derive(Debug)]
    struct Picky(Node);

    #[async_trait::async_trait]
    impl LockBackend for Picky {
        async fn acquire(
            &self,
            resources: &Resources,
            value: &LockValue,
            ttl: Duration,
        ) -> Result<Vote, redlock_core::BackendError> {
            self.0.acquire(resources, value, ttl).await
        }
        async fn release(
            &self,
            resources: &Resources,
            value: &LockValue,
        ) -> Result<Vote, redlock_core::BackendError> {
            self.0.release(resources, value).await
        }
        async fn extend(
            &self,
            resources: &Resources,
            value: &LockValue,
            ttl: Duration,
        ) -> Result<Vote, redlock_core::BackendError> {
            self.0.extend(resources, value, ttl).await
        }
        fn check(&self, resources: &Resources) -> Result<(), String> {
            if resources.len() == 1 {
                Ok(())
            } else {
                Err("one at a time".into())
            }
        }
    }

    let nodes = nodes(2);
    let redlock = builder(&nodes[..1])
        .node(Picky(nodes[1].clone()))
        .build()
        .unwrap();
    let error = redlock.acquire(["a", "b"], TTL).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid request: the node node 2 cannot lock these resources: one at a time"
    );
    assert!(nodes.iter().all(|node| node.calls().is_empty()));
    drop(redlock.acquire("a", TTL).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_not_taken_for_contention_by_the_next_attempt() {
    let nodes = nodes(3);
    for node in &nodes[1..] {
        node.once(Operation::Acquire, Fault::LoseReply);
    }
    let lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    lock.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_set_that_lands_after_it_was_reported_as_failed_leaves_no_ghost_lock() {
    let nodes = nodes(3);
    for node in &nodes {
        let kind = BackendErrorKind::Timeout;
        // Between two of the repeated releases, so that it can be seen.
        let after = ms(250);
        node.on(Operation::Acquire, Fault::LandLate { kind, after });
    }
    let redlock = redlock(&nodes);
    assert!(redlock.try_acquire("a", TTL * 60).await.is_err());
    eventually("they land", || holding(&nodes, "a") > 0).await;
    eventually("and are released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_ttl_does_not_make_an_outage_long() {
    let nodes = nodes(3);
    nodes[0].on_all(HUNG);
    nodes[1].on_all(HUNG);
    let redlock = builder(&nodes)
        .max_wait(Duration::from_secs(2))
        .build()
        .unwrap();
    let start = Instant::now();
    assert!(
        redlock
            .acquire("a", Duration::from_secs(86_400))
            .await
            .is_err()
    );
    assert!(
        start.elapsed() <= Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn votes_are_not_awaited_beyond_the_ttl() {
    let nodes = nodes(3);
    nodes[0].on_all(HUNG);
    nodes[1].on_all(HUNG);
    let redlock = builder(&nodes)
        .node_timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let start = Instant::now();
    assert!(
        redlock
            .try_acquire("a", Duration::from_secs(1))
            .await
            .is_err()
    );
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}
