//! Locks on nodes whose clocks run at other rates, on the paused clock.

use std::{iter, time::Duration};

use redlock_core::{
    Holder, LockBackend, LockValue, MemoryBackend, Redlock, Resources, Vote, validity,
};
use redlock_test::{Faulty, History, Skewed};
use tokio::time::{Instant, sleep, sleep_until};

const TTL: Duration = Duration::from_secs(1);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Asserts that an acquire, and then an extension, with [`TTL`] last between these.
async fn a_lease_lasts(rate: f64, at_least: Duration, less_than: Duration) {
    let node = Skewed::new(MemoryBackend::new(), rate);
    let (name, value) = (Resources::new(["a"]).unwrap(), LockValue::random());
    let granted = |vote: Result<Vote, _>| assert_eq!(vote.unwrap(), Vote::Granted);
    granted(node.acquire(&name, &value, TTL).await);
    sleep(at_least).await;
    granted(node.extend(&name, &value, TTL).await);
    let extended = Instant::now();
    sleep_until(extended + at_least).await;
    assert_eq!(node.inner().held(), 1, "rate {rate}");
    sleep_until(extended + less_than).await;
    assert_eq!(node.inner().held(), 0, "rate {rate}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_node_frees_the_lock_earlier_and_a_slow_one_later() {
    a_lease_lasts(1.1, ms(907), ms(911)).await;
    a_lease_lasts(1.0, ms(998), ms(1_002)).await;
    a_lease_lasts(0.5, ms(1_998), ms(2_002)).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_one_changes_no_ttl() {
    let node = Skewed::new(Faulty::new(MemoryBackend::new()), 1.0);
    let name = Resources::new(["a"]).unwrap();
    let ttls = [Duration::from_nanos(1), ms(1_234), TTL, TTL * 86_400];
    for ttl in ttls {
        let answer = node.acquire(&name, &LockValue::random(), ttl).await;
        answer.unwrap();
    }
    let asked: Vec<_> = node.inner().calls().iter().map(|call| call.ttl).collect();
    assert_eq!(asked, ttls.map(Some));
}

#[tokio::test(start_paused = true)]
async fn extreme_rates_neither_panic_nor_wrap() {
    let name = Resources::new(["a"]).unwrap();
    for (rate, held) in [(f64::MIN_POSITIVE, 1), (f64::MAX, 0)] {
        let node = Skewed::new(MemoryBackend::new(), rate);
        let value = LockValue::random();
        node.acquire(&name, &value, validity::MAX_TTL)
            .await
            .unwrap();
        assert_eq!(node.inner().held(), held, "rate {rate}");
    }
}

#[test]
fn a_rate_at_which_no_clock_runs_is_refused() {
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let made = std::panic::catch_unwind(|| Skewed::new(MemoryBackend::new(), rate));
        assert!(made.is_err(), "rate {rate}");
    }
}

/// What three clients did that each wanted the lock four times, for longer than one ttl, and then let it
/// end by itself.
async fn contention(rates: [f64; 3], drift_factor: f64) -> History {
    let nodes = rates.map(|rate| Skewed::new(MemoryBackend::new(), rate));
    let history = History::new();
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let redlock = Redlock::builder(nodes.clone())
                .drift_factor(drift_factor)
                .build()
                .unwrap();
            let history = history.clone();
            tokio::spawn(async move {
                for _ in 0..4 {
                    let retries = iter::repeat(ms(7 + number));
                    let lock = redlock.acquire_with_retry("a", TTL, retries).await;
                    let mut lock = lock.unwrap();
                    let held = history.locked(format!("client {number}"), &lock);
                    sleep(TTL / 2).await;
                    lock.extend(TTL).await.unwrap();
                    held.extended(lock.valid_until());
                    sleep_until(lock.valid_until()).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(history.holds().len(), 12);
    history
}

#[tokio::test(start_paused = true)]
async fn no_two_hold_at_once_while_the_drift_factor_covers_the_skew() {
    for rates in [[1.1, 1.1, 1.1], [1.1, 1.0, 0.9], [1.11, 0.5, 1.11]] {
        contention(rates, 0.1).await.assert_mutual_exclusion();
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_of_clocks_may_be_faster_than_the_drift_factor_covers() {
    contention([1.0, 3.0, 1.0], 0.01)
        .await
        .assert_mutual_exclusion();
}

#[tokio::test(start_paused = true)]
async fn two_hold_at_once_where_a_quorum_is_faster_than_the_drift_factor_covers() {
    let history = contention([1.1, 1.0, 1.1], 0.01).await;
    let violations = history.violations();
    assert!(!violations.is_empty(), "{history}");
    for violation in violations {
        // 1 s / 1.1 is 909 ms, and the lock is relied on for 988 ms.
        assert!(violation.overlap() < ms(80), "{violation}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_inspection_tells_the_time_as_the_node_counts_it() {
    let node = Skewed::new(MemoryBackend::new(), 0.5);
    let (name, value) = (Resources::new(["a"]).unwrap(), LockValue::random());
    node.acquire(&name, &value, TTL).await.unwrap();
    sleep(ms(500)).await;
    let holder = node.inspect("a").await.unwrap();
    assert_eq!(holder, Some(Holder::new(&value, ms(750))));
}
