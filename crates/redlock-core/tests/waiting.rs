//! Waiting for a lock that another holds, on the paused clock.

mod common;

use std::{collections::HashSet, iter, sync::Arc, time::Duration};

use common::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use redlock_core::{
    BackendErrorKind, Error, LockBackend, LockValue, MemoryBackend, Place, Redlock, Resources,
    Vote, Wake,
};
use redlock_test::{Fault, Operation};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, yield_now},
    time::{Instant, sleep, timeout},
};

/// More than a hint takes, and much less than any delay between attempts.
const AT_ONCE: Duration = ms(10);

fn seldom() -> iter::RepeatN<Duration> {
    iter::repeat_n(Duration::from_secs(1000), 3)
}

fn waits_seldom(process: &Redlock) -> JoinHandle<Result<(), Error>> {
    let process = process.clone();
    tokio::spawn(async move {
        let acquired = process.acquire_with_retry("a", TTL, seldom());
        acquired.await.map(drop)
    })
}

/// Has the nodes tell nothing, so that only polling helps.
fn silence(nodes: &[Node], fault: Fault) {
    for node in nodes {
        node.on(Operation::Wait, fault);
    }
}

fn requests(nodes: &[Node], operation: Operation) -> usize {
    nodes.iter().map(|node| node.count(operation)).sum()
}

#[tokio::test(start_paused = true)]
async fn a_release_is_followed_by_the_next_grant_at_once() {
    for count in [1, 3, 5] {
        let nodes = nodes(count);
        let (ours, theirs) = (redlock(&nodes), redlock(&nodes));
        let held = ours.acquire("a", TTL).await.unwrap();
        let waiting = tokio::spawn(async move {
            let lock = theirs.acquire_with_retry("a", TTL, seldom()).await;
            (lock.expect("it is released"), Instant::now())
        });
        sleep(ms(3_000)).await;
        let released = Instant::now();
        held.release().await.unwrap();
        let (lock, granted) = waiting.await.unwrap();
        assert!(granted - released < AT_ONCE, "{:?}", granted - released);
        assert_eq!(lock.votes().failed(), 0);
        eventually("all hold it", || holding(&nodes, "a") == count).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_is_followed_by_the_next_grant_at_once() {
    for extended in [false, true] {
        let nodes = nodes(3);
        let (ours, theirs) = (redlock(&nodes), redlock(&nodes));
        let mut held = ours.acquire("a", TTL).await.unwrap();
        let mut ends = Instant::now() + TTL;
        let waiting = tokio::spawn(async move {
            let lock = theirs.acquire_with_retry("a", TTL, seldom()).await;
            (lock.expect("it ends"), Instant::now())
        });
        sleep(ms(4_000)).await;
        if extended {
            held.extend(TTL).await.unwrap();
            ends = Instant::now() + TTL;
        }
        let _ = held.leak();
        let (_lock, granted) = waiting.await.unwrap();
        assert!(granted >= ends && granted - ends < AT_ONCE);
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_come_in_turn_whichever_process_they_are_in() {
    // Also when each has made some attempts meanwhile.
    for delay in [ms(1_000_000), ms(300)] {
        come_in_turn(delay).await;
    }
}

async fn come_in_turn(delay: Duration) {
    let nodes = nodes(5);
    let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let (order, mut granted) = mpsc::unbounded_channel();
    let mut waiting = Vec::new();
    for number in 0..6 {
        let (process, order) = (redlock(&nodes), order.clone());
        waiting.push(tokio::spawn(async move {
            let lock = process
                .acquire_with_retry("a", TTL, iter::repeat(delay))
                .await;
            let lock = lock.expect("its turn comes");
            order.send(number).unwrap();
            sleep(ms(100)).await;
            lock.release().await.unwrap();
        }));
        sleep(ms(20)).await;
    }
    sleep(ms(1_500)).await;
    let released = Instant::now();
    held.release().await.unwrap();
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert!(released.elapsed() < 6 * (ms(100) + AT_ONCE));
    for number in 0..6 {
        assert_eq!(granted.recv().await, Some(number));
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_process_they_come_in_turn_and_only_the_first_asks() {
    let nodes = nodes(3);
    let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let process = redlock(&nodes);
    let (order, mut granted) = mpsc::unbounded_channel();
    let spawn = |number| {
        let (process, order) = (process.clone(), order.clone());
        tokio::spawn(async move {
            let lock = process
                .acquire_with_retry("a", TTL, iter::repeat(ms(200)))
                .await;
            order.send(number).unwrap();
            lock.unwrap().release().await.unwrap();
        })
    };
    let mut waiting = vec![spawn(0)];
    sleep(ms(500)).await;
    let before = requests(&nodes, Operation::Acquire);
    for number in 1..50 {
        waiting.push(spawn(number));
        yield_now().await;
    }
    sleep(ms(1_000)).await;
    // The first polls one node now and then, in case that a hint is lost.
    let asked = requests(&nodes, Operation::Acquire) - before;
    assert!(asked <= 6, "{asked} requests of those behind");
    held.release().await.unwrap();
    for waiting in waiting {
        waiting.await.unwrap();
    }
    for number in 0..50 {
        assert_eq!(granted.recv().await, Some(number));
    }
    let waits = requests(&nodes, Operation::Wait);
    assert!(waits <= 2 * 50, "waited {waits} times");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_at_once_waits_behind_those_who_wait() {
    let nodes = nodes(3);
    let ours = redlock(&nodes);
    let held = ours.acquire("a", TTL).await.unwrap();
    let theirs = redlock(&nodes);
    let waiting =
        tokio::spawn(async move { theirs.acquire_with_retry("a", TTL, seldom()).await.unwrap() });
    sleep(ms(1_000)).await;
    held.release().await.unwrap();
    let again = ours.acquire_with_retry("a", TTL, seldom());
    let again = timeout(ms(50), again).await;
    assert!(again.is_err(), "it took the turn of who waited");
    let lock = timeout(AT_ONCE, waiting)
        .await
        .expect("it was told")
        .unwrap();
    assert!(lock.is_valid());
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_and_comes_back_at_once_waits_whichever_node_is_slow_to_say_that_others_do()
{
    for slow in 0..3 {
        let nodes = nodes(3);
        let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
        let ours = redlock(&nodes);
        let waited = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("a", TTL, seldom()).await.unwrap() }
        });
        sleep(ms(1_000)).await;
        held.release().await.unwrap();
        let held = waited.await.unwrap();
        let theirs = redlock(&nodes);
        let theirs =
            tokio::spawn(
                async move { theirs.acquire_with_retry("a", TTL, seldom()).await.unwrap() },
            );
        sleep(ms(1_000)).await;
        let (request, reply) = (ms(20), Duration::ZERO);
        nodes[slow].on(Operation::Release, Fault::Delay { request, reply });
        let before = requests(&nodes, Operation::Acquire);
        held.release().await.unwrap();
        let again = ours.acquire_with_retry("a", TTL, seldom());
        assert!(timeout(ms(50), again).await.is_err(), "they hold it");
        let tried = requests(&nodes, Operation::Acquire) - before;
        assert_eq!(tried, 3, "both have tried, and {slow} is slow");
        let lock = timeout(AT_ONCE, theirs).await.expect("it was told");
        assert!(lock.unwrap().is_valid());
    }
}

#[tokio::test(start_paused = true)]
async fn all_stand_in_line_at_the_same_node_though_its_refusal_comes_last() {
    let mut at = HashSet::new();
    let nodes = nodes(5);
    let _held = redlock(&nodes).acquire("a", TTL).await.unwrap();
    for slow in 0..5 {
        let (request, reply) = (Duration::ZERO, ms(20));
        nodes[slow].on(Operation::Acquire, Fault::Delay { request, reply });
        let waiting = waits_seldom(&redlock(&nodes));
        sleep(ms(500)).await;
        at.extend((0..5).filter(|node| nodes[*node].count(Operation::Wait) > 0));
        waiting.abort();
        nodes[slow].heal();
    }
    assert_eq!(at.len(), 1, "they stand at {at:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_undone_tells_nobody_and_a_release_does_also_where_it_holds_nothing() {
    let node = MemoryBackend::new();
    let (a, value) = (Resources::new(["a"]).unwrap(), LockValue::random());
    node.acquire(&a, &value, TTL).await.unwrap();
    let waiting = tokio::spawn({
        let (node, a) = (node.clone(), a.clone());
        async move { node.wait(&a, Place::Last).await.unwrap() }
    });
    sleep(ms(10)).await;
    assert_eq!(node.undo(&a, &value).await.unwrap(), Vote::Granted);
    sleep(ms(10)).await;
    assert!(!waiting.is_finished(), "it was told");
    assert_eq!(node.release(&a, &value).await.unwrap(), Vote::Refused);
    let told = timeout(AT_ONCE, waiting).await.expect("it is told");
    assert_eq!(told.unwrap(), Wake::Turn);
}

#[tokio::test(start_paused = true)]
async fn the_settings_end_the_wait_and_all_nodes_have_their_say() {
    let nodes = nodes(5);
    let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let patient = builder(&nodes)
        .retry_count(4)
        .retry_delay(ms(300))
        .retry_jitter(ms(0))
        .build()
        .unwrap();
    let start = Instant::now();
    let outcomes = futures_util::future::join_all([
        patient.acquire("a", TTL),
        patient.acquire("a", TTL),
        patient.acquire("a", TTL),
    ]);
    for outcome in outcomes.await {
        let Err(Error::Locked(votes)) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(votes.refused() >= 3, "{votes:?}");
    }
    let waited = start.elapsed();
    assert!(
        waited >= ms(1_200) && waited < ms(1_200) + AT_ONCE,
        "{waited:?}"
    );
    held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_is_in_nobodys_way() {
    let nodes = nodes(3);
    let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
    for patience in [1, 40, 700] {
        let process = redlock(&nodes);
        let given_up = process.acquire_with_retry("a", TTL, seldom());
        assert!(timeout(ms(patience), given_up).await.is_err());
    }
    let last = redlock(&nodes);
    let waiting = tokio::spawn(async move {
        let _ = last.acquire_with_retry("a", TTL, seldom()).await.unwrap();
        Instant::now()
    });
    sleep(ms(1_000)).await;
    let released = Instant::now();
    held.release().await.unwrap();
    assert!(waiting.await.unwrap() - released < AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_told_attempts_are_made_as_the_settings_say() {
    for fault in [Fault::Refuse, Fault::Fail(BackendErrorKind::Unreachable)] {
        polls(fault).await;
    }
}

async fn polls(fault: Fault) {
    let nodes = nodes(3);
    silence(&nodes, fault);
    let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let other = builder(&nodes)
        .retry_delay(ms(200))
        .retry_jitter(ms(0))
        .build()
        .unwrap();
    let start = Instant::now();
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.acquire("a", TTL).await.map(|_| Instant::now()) }
    });
    sleep(ms(500)).await;
    held.release().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap() - start, ms(600));
    // In the same process the release itself is told.
    let held = other.acquire("b", TTL).await.unwrap();
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.acquire("b", TTL).await.map(|_| Instant::now()) }
    });
    sleep(ms(500)).await;
    let released = Instant::now();
    held.release().await.unwrap();
    assert!(waiting.await.unwrap().unwrap() - released < AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn a_hung_node_holds_up_neither_the_hints_nor_the_attempts() {
    for hung in 0..5 {
        let nodes = nodes(5);
        nodes[hung].on_all(HUNG);
        let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
        let other = redlock(&nodes);
        let waiting = tokio::spawn(async move {
            let _ = other
                .acquire_with_retry("a", TTL, iter::repeat(ms(200)))
                .await
                .unwrap();
            Instant::now()
        });
        sleep(ms(3_000)).await;
        let released = Instant::now();
        held.release().await.unwrap();
        let handed_over = waiting.await.unwrap() - released;
        assert!(handed_over < AT_ONCE, "node {hung}: {handed_over:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_vote_of_a_slow_node_counts_also_when_it_is_asked_first() {
    for down in 0..3 {
        let nodes = nodes(3);
        let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
        let other = redlock(&nodes);
        let waiting =
            tokio::spawn(
                async move { other.acquire_with_retry("a", TTL, seldom()).await.unwrap() },
            );
        sleep(ms(3_000)).await;
        let slow = NODE_TIMEOUT / 2;
        for node in &nodes {
            node.on(
                Operation::Acquire,
                Fault::Delay {
                    request: slow,
                    reply: Duration::ZERO,
                },
            );
        }
        nodes[down].on(Operation::Acquire, Fault::Down);
        let expired = TTL.saturating_sub(ms(3_000));
        // Nobody is told of it.
        let _ = held.leak();
        let lock = timeout(expired + 2 * NODE_TIMEOUT, waiting).await;
        let lock = lock.expect("it has ended").unwrap();
        for (node, vote) in lock.votes().iter().enumerate() {
            let expected = if node == down { Duration::ZERO } else { slow };
            assert_eq!(vote.took(), expected, "{}", lock.votes());
        }
    }
}

/// Whatever becomes of hints, somebody who waits is granted what is free within two delays.
#[tokio::test(start_paused = true)]
async fn no_wake_up_is_ever_lost_though_hints_are() {
    let delay = ms(200);
    for seed in 0..60_u64 {
        let nodes = nodes(if seed % 2 == 0 { 3 } else { 5 });
        let mut random = StdRng::seed_from_u64(seed);
        let mut dice = move |sides: usize| random.random_range(0..sides);
        let (grants, mut granted) = mpsc::unbounded_channel();
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let process = builder(&nodes).retry_delay(delay).build().unwrap();
                let (grants, hold) = (grants.clone(), ms(dice(40) as u64 + 1));
                tokio::spawn(async move {
                    for _ in 0..5 {
                        let forever = iter::repeat(delay);
                        let lock = process.acquire_with_retry("a", TTL, forever).await.unwrap();
                        sleep(hold).await;
                        lock.release().await.unwrap();
                        grants.send(Instant::now()).unwrap();
                    }
                })
            })
            .collect();
        drop(grants);
        let mut last = Instant::now();
        loop {
            let node = &nodes[dice(nodes.len())];
            match dice(5) {
                0 => node.once(Operation::Wait, Fault::LoseRequest),
                1 => node.once(Operation::Wait, Fault::LoseReply),
                2 => node.once(Operation::Wait, Fault::Fail(BackendErrorKind::Unreachable)),
                3 => node.once(Operation::Wait, late(dice(300) as u64)),
                _ => node.heal(),
            }
            let next = timeout(2 * delay + ms(100), granted.recv()).await;
            let Ok(next) = next else {
                panic!(
                    "seed {seed}: free for {:?}, and nobody has it",
                    last.elapsed()
                );
            };
            let Some(at) = next else { break };
            last = at;
        }
        for waiting in waiting {
            waiting.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_memory_node_keeps_a_turn_for_whom_it_was_given_to_for_a_while() {
    let node = MemoryBackend::new();
    let process = Redlock::new([node.clone()]).unwrap();
    let a = Resources::new(["a"]).unwrap();
    let held = process.acquire("a", TTL).await.unwrap();
    let first = Arc::new(node.clone());
    let waits = tokio::spawn({
        let a = a.clone();
        async move { first.wait(&a, Place::Last).await }
    });
    sleep(ms(10)).await;
    assert!(!node.is_awaited(&a));
    held.release().await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap(), Wake::Turn);
    assert!(node.is_awaited(&a));
    let start = Instant::now();
    assert_eq!(node.wait(&a, Place::Last).await.unwrap(), Wake::Free);
    assert_eq!(start.elapsed(), redlock_core::TURN);
    assert!(!node.is_awaited(&a), "the turn is over");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_several_stands_in_one_line() {
    let node = MemoryBackend::new();
    let process = Redlock::new([node.clone()]).unwrap();
    let _ = process.acquire("a", ms(1_000)).await.unwrap().leak();
    let _b = process.acquire("b", TTL).await.unwrap();
    let wait = |names: &'static [&str]| {
        let (node, names) = (node.clone(), Resources::new(names.iter().copied()).unwrap());
        tokio::spawn(async move { node.wait(&names, Place::Last).await.unwrap() })
    };
    let both = wait(&["a", "b"]);
    sleep(ms(1_500)).await;
    let held = process.acquire("a", TTL).await.unwrap();
    let one = wait(&["a"]);
    sleep(ms(10)).await;
    held.release().await.unwrap();
    let told = timeout(ms(1), one).await.expect("nobody is in front");
    assert_eq!(told.unwrap(), Wake::Turn);
    assert!(!both.is_finished());
}

#[tokio::test(start_paused = true)]
async fn who_meets_an_outage_does_not_hold_up_those_behind() {
    let nodes = nodes(3);
    let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let process = redlock(&nodes);
    let first = waits_seldom(&process);
    sleep(ms(500)).await;
    let second = tokio::spawn(async move {
        let often = iter::repeat(ms(200));
        process.acquire_with_retry("a", TTL, often).await.map(drop)
    });
    sleep(ms(500)).await;
    for node in &nodes[..2] {
        node.on(
            Operation::Acquire,
            Fault::Fail(BackendErrorKind::Unreachable),
        );
    }
    held.release().await.unwrap();
    sleep(ms(1_000)).await;
    nodes.iter().for_each(Node::heal);
    timeout(ms(500), second)
        .await
        .expect("it tries again")
        .unwrap()
        .unwrap();
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_told_nobody_waits_for_another_who_seldom_tries() {
    let nodes = nodes(3);
    silence(&nodes, Fault::Refuse);
    let held = redlock(&nodes).acquire("a", TTL).await.unwrap();
    let process = redlock(&nodes);
    let first = waits_seldom(&process);
    sleep(ms(500)).await;
    held.release().await.unwrap();
    let second = process.acquire_with_retry("a", TTL, iter::repeat(ms(200)));
    let second = timeout(ms(500), second).await;
    assert!(second.expect("it tries by itself").is_ok());
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn of_many_who_see_a_lease_end_one_gets_it_and_the_others_ask_one_node() {
    let nodes = nodes(5);
    let _ = redlock(&nodes)
        .acquire("a", ms(2_000))
        .await
        .unwrap()
        .leak();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let process = redlock(&nodes);
            tokio::spawn(async move {
                let lock = process.acquire_with_retry("a", TTL, seldom()).await;
                lock.unwrap().leak()
            })
        })
        .collect();
    sleep(ms(1_900)).await;
    let before = requests(&nodes, Operation::Acquire);
    sleep(ms(200)).await;
    let asked = requests(&nodes, Operation::Acquire) - before;
    assert_eq!(waiting.iter().filter(|it| it.is_finished()).count(), 1);
    assert!(asked <= 20 + 4, "{asked} requests");
    for waiting in waiting {
        waiting.abort();
    }
}
