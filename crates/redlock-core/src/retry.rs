//! How long to wait before the next attempt? Pure: no clock, no I/O, nothing overflows.

use std::{iter, time::Duration};

/// `delay` moved by up to `jitter` either way; `random`, in `[0, 1)`, says how far. Never below zero.
#[must_use]
pub fn jittered(delay: Duration, jitter: Duration, random: f64) -> Duration {
    let shift = |part: f64| Duration::try_from_secs_f64(jitter.as_secs_f64() * part);
    let share = (2.0 * random - 1.0).clamp(-1.0, 1.0);
    let distance = shift(share.abs()).unwrap_or(jitter);
    if share < 0.0 {
        delay.saturating_sub(distance)
    } else {
        delay.saturating_add(distance)
    }
}

/// Delays that double from `first` up to `most`, for ever.
pub fn backoff(first: Duration, most: Duration) -> impl Iterator<Item = Duration> + Send + Sync {
    iter::successors(Some(first.min(most)), move |delay| {
        Some(delay.saturating_mul(2).min(most))
    })
}

/// After what part of its ttl a lock is extended that is kept alive: a third, but not so late that less
/// than half of the validity is left.
#[must_use]
pub fn renewal(ttl: Duration, validity: Duration) -> Duration {
    (ttl / 3).min(validity / 2)
}

/// The pause after an extension that failed: often enough while validity is left, never a busy loop.
#[must_use]
pub fn renewal_pause(ttl: Duration) -> Duration {
    (ttl / 20).clamp(Duration::from_millis(1), Duration::from_secs(1))
}

/// What [`acquire_with_retry`](crate::Redlock::acquire_with_retry) takes: the delays between attempts.
///
/// Either an iterator of delays, whose end ends the retries, or a function from the number of the
/// attempt that just failed (1 is the first) to the delay before the next, which is called at most
/// [`retry_count`](crate::RedlockBuilder::retry_count) times. `Kind` only tells the two apart and is
/// always inferred.
///
/// ```
/// # use std::time::Duration;
/// # use redlock_core::{MemoryBackend, Redlock};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let redlock = Redlock::new([MemoryBackend::new()])?;
/// let ttl = Duration::from_secs(5);
///
/// let patient = std::iter::repeat_n(Duration::from_millis(50), 100);
/// redlock.acquire_with_retry("a", ttl, patient).await?.release().await?;
///
/// let linear = |attempt: u32| Duration::from_millis(20) * attempt;
/// redlock.acquire_with_retry("a", ttl, linear).await?.release().await?;
/// # Ok(())
/// # }
/// ```
pub trait Retry<Kind> {
    /// The delays, of which a function may give at most `limit`.
    fn delays(self, limit: u32) -> impl Iterator<Item = Duration> + Send;
}

/// Marks a [`Retry`] that is an iterator.
#[derive(Debug)]
pub enum Delays {}

/// Marks a [`Retry`] that is a function.
#[derive(Debug)]
pub enum ByAttempt {}

impl<I> Retry<Delays> for I
where
    I: IntoIterator<Item = Duration>,
    I::IntoIter: Send,
{
    fn delays(self, _limit: u32) -> impl Iterator<Item = Duration> + Send {
        self.into_iter()
    }
}

impl<F> Retry<ByAttempt> for F
where
    F: FnMut(u32) -> Duration + Send,
{
    fn delays(self, limit: u32) -> impl Iterator<Item = Duration> + Send {
        (1..=limit).map(self)
    }
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
        fn a_jittered_delay_stays_within_the_jitter(
            delay in any_duration(), jitter in any_duration(), random in 0.0..1.0_f64,
        ) {
            let moved = jittered(delay, jitter, random);
            // The distance is computed in floating point: allow its rounding.
            let slack = jitter / 1_000_000 + Duration::from_nanos(1);
            prop_assert!(moved >= delay.saturating_sub(jitter).saturating_sub(slack));
            prop_assert!(moved <= delay.saturating_add(jitter).saturating_add(slack));
        }

        #[test]
        fn any_random_number_at_all_is_survived(
            delay in any_duration(), jitter in any_duration(), random in any::<f64>(),
        ) {
            let _ = jittered(delay, jitter, random);
        }

        #[test]
        fn backoff_rises_to_its_limit_and_stays(first in any_duration(), most in any_duration()) {
            let delays: Vec<_> = backoff(first, most).take(200).collect();
            prop_assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(delays.iter().all(|delay| *delay <= most));
        }

        #[test]
        fn a_function_is_asked_at_most_as_often_as_retries_are_allowed(limit in 0..2_000_u32) {
            let asked: Vec<_> = Retry::delays(|n: u32| Duration::from_millis(n.into()), limit).collect();
            prop_assert_eq!(asked.len(), limit as usize);
        }
    }

    #[test]
    fn a_lock_is_renewed_in_time_whatever_its_ttl_and_drift() {
        use crate::validity::validity;

        for millis in [10, 11, 100, 1_000, 10_000, 3_600_000, 86_400_000] {
            for factor in [0.0, 0.01, 0.5, 0.99] {
                let ttl = Duration::from_millis(millis);
                let valid = validity(ttl, factor);
                assert!(renewal(ttl, valid) <= valid / 2);
                assert!(renewal(ttl, valid) <= ttl / 3);
                assert!(renewal_pause(ttl) >= Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn without_jitter_the_delay_is_exact() {
        let delay = Duration::from_millis(200);
        assert_eq!(jittered(delay, Duration::ZERO, 0.999), delay);
        assert_eq!(
            jittered(Duration::ZERO, Duration::ZERO, 0.0),
            Duration::ZERO
        );
    }
}
