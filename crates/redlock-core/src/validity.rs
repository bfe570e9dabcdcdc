//! How long may a lock be relied on? Pure: no clock, no I/O, nothing overflows.

use std::time::Duration;

/// Added to every drift allowance: Redis expires keys with a precision of one millisecond.
pub const CLOCK_PRECISION: Duration = Duration::from_millis(2);

/// The longest ttl accepted: 2⁵³ − 1 milliseconds, the largest that scripts on a node compare exactly.
pub const MAX_TTL: Duration = Duration::from_millis((1 << 53) - 1);

/// The shortest default time after which a node's vote is given up.
pub const MIN_NODE_TIMEOUT: Duration = Duration::from_millis(50);

/// The longest default time after which a node's vote is given up.
pub const MAX_NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// How much faster a node's clock may run than ours during `ttl`: `ttl · factor + 2 ms`.
///
/// `factor` is expected in `[0, 1)`; anything else saturates.
#[must_use]
pub fn drift(ttl: Duration, factor: f64) -> Duration {
    let seconds = ttl.as_secs_f64() * factor.max(0.0);
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(Duration::MAX)
        .saturating_add(CLOCK_PRECISION)
}

/// How long after its start an attempt with this `ttl` may be relied on: `ttl − drift`, at least zero.
#[must_use]
pub fn validity(ttl: Duration, factor: f64) -> Duration {
    ttl.saturating_sub(drift(ttl, factor))
}

/// The default time after which a node's vote is given up: `ttl / 20`, but 50 ms to 5 s.
#[must_use]
pub fn node_timeout(ttl: Duration) -> Duration {
    (ttl / 20).clamp(MIN_NODE_TIMEOUT, MAX_NODE_TIMEOUT)
}

/// The default time for which late answers are awaited and undone: the ttl, but 1 s to 30 s.
#[must_use]
pub fn cleanup_timeout(ttl: Duration) -> Duration {
    ttl.clamp(Duration::from_secs(1), Duration::from_secs(30))
}

/// `ttl` in whole milliseconds, rounded up: a node must never expire a key before we expect it to.
#[must_use]
pub fn whole_millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_duration() -> impl Strategy<Value = Duration> {
        (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n))
    }

    proptest! {
        #[test]
        fn validity_and_drift_never_panic_and_never_exceed_the_ttl(
            ttl in any_duration(), factor in 0.0..1.0_f64,
        ) {
            prop_assert!(drift(ttl, factor) >= CLOCK_PRECISION);
            prop_assert!(validity(ttl, factor) <= ttl.saturating_sub(CLOCK_PRECISION));
        }

        #[test]
        fn a_larger_factor_never_gives_a_longer_validity(
            ttl in any_duration(), a in 0.0..1.0_f64, b in 0.0..1.0_f64,
        ) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(validity(ttl, high) <= validity(ttl, low));
        }

        #[test]
        fn any_factor_at_all_is_survived(ttl in any_duration(), factor in any::<f64>()) {
            prop_assert!(drift(ttl, factor) >= CLOCK_PRECISION);
            prop_assert!(validity(ttl, factor) <= ttl);
        }

        #[test]
        fn timeouts_never_panic(ttl in any_duration()) {
            prop_assert!(node_timeout(ttl) >= MIN_NODE_TIMEOUT);
            prop_assert!(cleanup_timeout(ttl) >= Duration::from_secs(1));
        }

        #[test]
        fn a_node_keeps_the_key_at_least_as_long_as_asked(ttl in any_duration()) {
            let millis = whole_millis(ttl);
            prop_assert!(millis == u64::MAX || Duration::from_millis(millis) >= ttl);
        }
    }

    #[test]
    fn the_published_formula() {
        let ttl = Duration::from_secs(10);
        assert_eq!(drift(ttl, 0.01), Duration::from_millis(102));
        assert_eq!(validity(ttl, 0.01), Duration::from_millis(9_898));
        assert_eq!(node_timeout(ttl), Duration::from_millis(500));
        assert_eq!(node_timeout(Duration::from_millis(1)), MIN_NODE_TIMEOUT);
        assert_eq!(node_timeout(Duration::from_secs(86_400)), MAX_NODE_TIMEOUT);
    }

    #[test]
    fn a_ttl_within_the_clock_precision_is_never_valid() {
        assert_eq!(validity(Duration::from_millis(2), 0.0), Duration::ZERO);
        assert_eq!(validity(Duration::ZERO, 0.5), Duration::ZERO);
    }
}
