//! Keeping a lock alive, and being told when that fails, on the paused clock.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::*;
use redlock_core::{BackendErrorKind, Error, LockBackend, LockLost, Resources, UsingError};
use redlock_test::{Fault, Operation};
use tokio::time::{Instant, sleep, sleep_until, timeout};

const TTLS: [Duration; 6] = [
    ms(10),
    ms(50),
    ms(1_000),
    TTL,
    Duration::from_secs(60),
    Duration::from_secs(3_600),
];

#[tokio::test(start_paused = true)]
async fn a_kept_lock_outlasts_its_ttl_whatever_that_is() {
    for ttl in TTLS {
        let nodes = nodes(3);
        let redlock = redlock(&nodes);
        let kept = redlock.acquire("a", ttl).await.unwrap().keep_alive();
        for _ in 0..50 {
            sleep(ttl * 7 / 10).await;
            assert!(!kept.is_lost(), "{ttl:?}");
            assert!(redlock.try_acquire("a", ttl).await.is_err());
        }
        kept.release().await.unwrap();
        eventually("released", || holding(&nodes, "a") == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_extended_after_a_third_of_its_ttl() {
    let nodes = nodes(3);
    let start = Instant::now();
    let kept = redlock(&nodes)
        .acquire("a", TTL)
        .await
        .unwrap()
        .keep_alive();
    sleep(Duration::from_secs(60)).await;
    let extensions: Vec<_> = nodes[0]
        .calls()
        .into_iter()
        .filter(|call| call.operation == Operation::Extend)
        .map(|call| (call.at - start).as_millis())
        .collect();
    assert_eq!(extensions.len(), 17);
    assert_eq!(
        extensions[..3],
        [3_334, 6_668, 10_002],
        "timers have a resolution of 1 ms"
    );
    kept.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_a_majority_hung_the_signal_fires_at_the_deadline_to_the_millisecond() {
    for ttl in TTLS {
        let nodes = nodes(3);
        let kept = redlock(&nodes)
            .acquire("a", ttl)
            .await
            .unwrap()
            .keep_alive();
        let signal = kept.signal();
        sleep(ttl * 3).await;
        nodes[0].on(Operation::Extend, HUNG);
        nodes[1].on(Operation::Extend, HUNG);
        // The last extension that came through; the next ones hang.
        let deadline = Instant::now() + signal.validity();
        signal.lost().await;
        assert!(
            Instant::now() >= deadline && Instant::now() - deadline <= ms(1),
            "{ttl:?}"
        );
        assert!(signal.is_lost());
        nodes[0].heal();
        nodes[1].heal();
        sleep(ttl).await;
        assert!(signal.is_lost(), "lost is for ever");
        assert!(matches!(kept.release().await, Err(Error::Lost(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_quorum_fires_the_signal_at_once() {
    let nodes = nodes(3);
    let kept = redlock(&nodes)
        .acquire("a", TTL)
        .await
        .unwrap()
        .keep_alive();
    sleep(Duration::from_secs(3)).await;
    let before = Instant::now();
    nodes[0].inner().forget();
    nodes[1].inner().forget();
    kept.signal().lost().await;
    assert!(
        before.elapsed() < ms(400),
        "with the next extension, not at the deadline"
    );
    assert!(kept.check().is_err());
    assert_eq!(
        holding(&nodes, "a"),
        1,
        "what the nodes have lost is not taken again"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_validity_is_survived_without_a_busy_loop() {
    for ttl in TTLS {
        for fault in [
            Fault::Down,
            Fault::Fail(BackendErrorKind::Server),
            Fault::Panic,
        ] {
            let nodes = nodes(3);
            let kept = redlock(&nodes)
                .acquire("a", ttl)
                .await
                .unwrap()
                .keep_alive();
            sleep(ttl * 5 / 4).await;
            let before = nodes[0].count(Operation::Extend);
            nodes
                .iter()
                .for_each(|node| node.on(Operation::Extend, fault));
            sleep(ttl / 2).await;
            nodes.iter().for_each(Node::heal);
            let tried = nodes[0].count(Operation::Extend) - before;
            let most = if ttl > Duration::from_secs(20) {
                2_000
            } else {
                12
            };
            assert!(
                (1..=most).contains(&tried),
                "{ttl:?} {fault:?}: {tried} extensions"
            );
            sleep(ttl * 2).await;
            assert!(!kept.is_lost(), "{ttl:?} {fault:?}");
            kept.release().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_flapping_node_the_lock_is_kept_for_a_week() {
    let nodes = nodes(3);
    let ttl = Duration::from_secs(60);
    let kept = redlock(&nodes)
        .acquire("a", ttl)
        .await
        .unwrap()
        .keep_alive();
    let faults = [
        Fault::Down,
        HUNG,
        Fault::LoseReply,
        Fault::FailAfter(BackendErrorKind::Unreachable),
        late(40_000),
    ];
    let week = Instant::now() + Duration::from_secs(7 * 86_400);
    let mut turn = 0;
    while Instant::now() < week {
        let node = &nodes[turn % 3];
        node.on_all(faults[turn % faults.len()]);
        if turn % 4 == 0 {
            node.inner().forget();
        }
        sleep(Duration::from_secs(97)).await;
        node.heal();
        // One node at a time: it is whole again before the next one goes.
        sleep(Duration::from_secs(83)).await;
        assert!(!kept.is_lost(), "turn {turn}");
        turn += 1;
    }
    assert_eq!(holding(&nodes, "a"), 3, "healed");
    kept.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nodes_that_lost_the_lock_or_never_had_it_are_given_it_again() {
    let nodes = nodes(5);
    nodes[4].once(Operation::Acquire, Fault::Down);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    eventually("four hold it", || holding(&nodes, "a") == 4).await;
    nodes[0].inner().forget();
    lock.extend(TTL).await.unwrap();
    eventually("all hold it", || holding(&nodes, "a") == 5).await;
    for node in &nodes {
        assert_eq!(node.inner().holder("a").as_ref(), Some(lock.value()));
    }
    lock.release().await.unwrap();
    eventually("released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_healed_vote_never_counts_and_nothing_is_healed_without_a_quorum() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    nodes[0].inner().forget();
    nodes[1].inner().forget();
    let error = lock.extend(TTL).await.unwrap_err();
    assert!(
        matches!(&error, Error::Lost(votes) if votes.refused() == 2),
        "{error}"
    );
    sleep(Duration::from_secs(1)).await;
    assert!(nodes.iter().all(|node| node.count(Operation::Acquire) == 1));
}

#[tokio::test(start_paused = true)]
async fn healing_takes_nothing_from_somebody_else() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    eventually("all hold it", || holding(&nodes, "a") == 3).await;
    nodes[0].inner().forget();
    let rival = redlock_core::LockValue::random();
    let a = Resources::new(["a"]).unwrap();
    nodes[0].inner().acquire(&a, &rival, TTL).await.unwrap();
    lock.extend(TTL).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(nodes[0].inner().holder("a"), Some(rival));
}

#[tokio::test(start_paused = true)]
async fn a_late_healing_never_outlives_the_release() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    eventually("all hold it", || holding(&nodes, "a") == 3).await;
    nodes[0].inner().forget();
    nodes[0].on(Operation::Acquire, late(700));
    lock.extend(TTL).await.unwrap();
    sleep(ms(10)).await;
    lock.release().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        nodes[0].count(Operation::Acquire),
        2,
        "the healing was under way"
    );
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn no_node_is_asked_to_extend_after_it_was_asked_to_release() {
    for race in 0..10_000_u64 {
        let nodes = nodes(3);
        for (node, delay) in nodes.iter().zip([0, 1, 3]) {
            node.on(
                Operation::Extend,
                Fault::Delay {
                    request: ms(delay),
                    reply: ms(2),
                },
            );
        }
        let kept = redlock(&nodes)
            .acquire("a", ms(60))
            .await
            .unwrap()
            .keep_alive();
        // From before the second extension until after its last answer, in steps of a quarter of a
        // millisecond; the timers' resolution mixes the orders.
        sleep(ms(38) + Duration::from_micros(race % 40 * 250)).await;
        if race % 3 == 0 {
            drop(kept);
        } else {
            kept.release().await.unwrap();
        }
        let released = |node: &Node| node.count(Operation::Release) >= 1;
        eventually("all are asked to release", || nodes.iter().all(released)).await;
        sleep(ms(60)).await;
        for node in &nodes {
            let calls = node.calls();
            let released = calls
                .iter()
                .position(|call| call.operation == Operation::Release);
            let after = &calls[released.unwrap()..];
            let only_released = after
                .iter()
                .all(|call| call.operation == Operation::Release);
            assert!(only_released, "race {race}: {after:?}");
        }
        assert_eq!(holding(&nodes, "a"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_kept_lock_or_its_release_releases_it() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    drop(redlock.acquire("a", TTL).await.unwrap().keep_alive());
    eventually("released", || holding(&nodes, "a") == 0).await;
    drop(
        redlock
            .acquire("a", TTL)
            .await
            .unwrap()
            .keep_alive()
            .release(),
    );
    eventually("released", || holding(&nodes, "a") == 0).await;
    for node in &nodes {
        node.on(Operation::Release, late(100));
    }
    let kept = redlock.acquire("a", TTL).await.unwrap().keep_alive();
    assert!(timeout(ms(10), kept.release()).await.is_err());
    eventually("released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn max_hold_ends_a_lock_that_would_be_kept_for_ever() {
    let nodes = nodes(3);
    let limit = ms(60_000);
    let redlock = builder(&nodes).max_hold(limit).build().unwrap();
    let start = Instant::now();
    let kept = redlock.acquire("a", TTL).await.unwrap().keep_alive();
    kept.signal().lost().await;
    assert_eq!(start.elapsed(), limit);
    assert_eq!(
        holding(&nodes, "a"),
        3,
        "whoever was told has the rest of the ttl to come to an end"
    );
    sleep(TTL).await;
    assert_eq!(holding(&nodes, "a"), 0);
    assert!(matches!(kept.release().await, Err(Error::Lost(_))));

    let kept = redlock.acquire("b", TTL).await.unwrap().keep_alive();
    sleep(ms(59_999)).await;
    kept.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_signal_can_be_waited_for_by_many_and_cuts_off_only_what_asks_for_it() {
    let nodes = nodes(3);
    let kept = redlock(&nodes)
        .acquire("a", TTL)
        .await
        .unwrap()
        .keep_alive();
    let signal = kept.signal();
    assert_eq!(signal.run_until_lost(async { 7 }).await, Ok(7));
    assert_eq!(signal.check(), Ok(()));
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let signal = signal.clone();
            tokio::spawn(async move {
                signal
                    .run_until_lost(sleep(Duration::from_secs(1_000)))
                    .await
            })
        })
        .collect();
    sleep(Duration::from_secs(100)).await;
    nodes[0].on(Operation::Extend, HUNG);
    nodes[1].on(Operation::Extend, HUNG);
    for task in waiting {
        assert_eq!(task.await.unwrap(), Err(LockLost));
    }
    assert_eq!(signal.check(), Err(LockLost));
    assert_eq!(signal.validity(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_released_lock_fires_the_signal_at_once() {
    let nodes = nodes(3);
    let kept = redlock(&nodes)
        .acquire("a", TTL)
        .await
        .unwrap()
        .keep_alive();
    let signal = kept.signal();
    let start = Instant::now();
    kept.release().await.unwrap();
    signal.lost().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[cfg(feature = "tokio-util")]
#[tokio::test(start_paused = true)]
async fn a_cancellation_token_is_cancelled_when_the_lock_is_lost() {
    let nodes = nodes(3);
    let kept = redlock(&nodes)
        .acquire("a", TTL)
        .await
        .unwrap()
        .keep_alive();
    let token = kept.signal().cancellation_token();
    sleep(Duration::from_secs(100)).await;
    assert!(!token.is_cancelled());
    nodes[0].on(Operation::Extend, HUNG);
    nodes[1].on(Operation::Extend, HUNG);
    let deadline = Instant::now() + kept.validity();
    token.cancelled().await;
    assert_eq!(Instant::now(), deadline);
}

#[tokio::test(start_paused = true)]
async fn using_runs_under_the_lock_and_releases() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let outcome = redlock
        .using(["a", "b"], TTL, async |signal| {
            sleep(TTL * 5).await;
            assert!(redlock.try_acquire("b", TTL).await.is_err());
            !signal.is_lost()
        })
        .await;
    assert!(outcome.unwrap());
    eventually("released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn using_does_not_call_the_routine_without_the_lock() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let _held = redlock.acquire("a", TTL * 10).await.unwrap();
    let outcome = redlock
        .using("a", TTL, async |_| panic!("must not be called"))
        .await;
    let error: UsingError<()> = outcome.unwrap_err();
    assert!(
        matches!(error, UsingError::NotAcquired(Error::Locked(_))),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn using_says_lost_and_gives_what_the_routine_returned() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let told = Arc::new(AtomicBool::new(false));
    let routine = async |signal: redlock_core::LostSignal| {
        nodes[0].on(Operation::Extend, HUNG);
        nodes[1].on(Operation::Extend, HUNG);
        signal.lost().await;
        told.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        "not cut off"
    };
    match redlock.using("a", TTL, routine).await {
        Err(UsingError::Lost {
            outcome: "not cut off",
            error: Error::Lost(_),
        }) => {}
        other => panic!("{other:?}"),
    }
    assert!(told.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn using_lasted_when_only_its_release_could_not_be_confirmed() {
    let nodes = nodes(3);
    let routine = async |_| {
        nodes
            .iter()
            .for_each(|node| node.on(Operation::Release, Fault::Down));
    };
    redlock(&nodes).using("a", TTL, routine).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_using_drops_the_routine_and_releases() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let running = redlock.using("a", TTL, async |_| std::future::pending::<()>().await);
    assert!(timeout(TTL * 3, running).await.is_err());
    eventually("released", || holding(&nodes, "a") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_holder_is_told_before_anybody_else_can_acquire() {
    let nodes = nodes(5);
    let redlock = redlock(&nodes);
    for round in 0..50 {
        let kept = redlock.acquire("a", ms(1_000)).await.unwrap().keep_alive();
        let signal = kept.signal();
        sleep(ms(1_000 + 37 * round)).await;
        for node in &nodes[..3] {
            node.on(
                Operation::Extend,
                if round % 2 == 0 { HUNG } else { Fault::Down },
            );
        }
        let patience = std::iter::repeat_n(ms(1), 5_000);
        let next = redlock
            .acquire_with_retry("a", TTL, patience)
            .await
            .unwrap();
        assert!(signal.is_lost(), "two holders");
        drop(kept);
        nodes.iter().for_each(Node::heal);
        next.release().await.unwrap();
        sleep_until(Instant::now() + ms(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_does_not_wait_for_a_hung_extension() {
    let nodes = nodes(3);
    let kept = redlock(&nodes)
        .acquire("a", TTL)
        .await
        .unwrap()
        .keep_alive();
    nodes
        .iter()
        .for_each(|node| node.on(Operation::Extend, HUNG));
    sleep(ms(3_400)).await;
    assert_eq!(nodes[0].count(Operation::Extend), 1, "it is under way");
    let start = Instant::now();
    kept.release().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_arrives_after_the_release_is_not_healed() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let mut lock = redlock.acquire("a", TTL).await.unwrap();
    for slow in &nodes[..2] {
        slow.once(Operation::Extend, late(450));
        lock.extend(TTL).await.unwrap();
        sleep(ms(10)).await;
    }
    lock.release().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_acquire_of_a_healed_node_leaves_no_ghost_after_the_release() {
    let nodes = nodes(3);
    nodes[0].once(Operation::Acquire, late(300));
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    lock.extend(TTL).await.unwrap();
    eventually("healed", || holding(&nodes, "a") == 3).await;
    lock.release().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_is_not_healed_by_an_earlier_extension() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL).await.unwrap();
    nodes[0].inner().forget();
    nodes[0].once(Operation::Extend, late(400));
    lock.extend(TTL).await.unwrap();
    nodes[1].inner().forget();
    nodes[2].inner().forget();
    assert!(matches!(lock.extend(TTL).await, Err(Error::Lost(_))));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_healed_by_a_short_extension_holds_as_long_as_the_lock_is_valid() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let mut lock = redlock.acquire("a", TTL * 6).await.unwrap();
    nodes[0].inner().forget();
    lock.extend(ms(1_000)).await.unwrap();
    eventually("healed", || holding(&nodes, "a") == 3).await;
    sleep(Duration::from_secs(2)).await;
    nodes[1].inner().forget();
    assert!(lock.is_valid());
    assert!(redlock.try_acquire("a", TTL).await.is_err(), "two holders");
}

#[tokio::test(start_paused = true)]
async fn a_lock_shortly_extended_and_then_kept_is_renewed_soon() {
    let nodes = nodes(3);
    let mut lock = redlock(&nodes).acquire("a", TTL * 6).await.unwrap();
    lock.extend(ms(1_000)).await.unwrap();
    let _kept = lock.keep_alive();
    sleep(ms(400)).await;
    assert_eq!(nodes[0].count(Operation::Extend), 2);
}
