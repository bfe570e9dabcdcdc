//! The one file that names `tokio::time`, so that a paused clock governs everything.

use std::time::Duration;

pub use tokio::time::Instant;
pub(crate) use tokio::time::{sleep, sleep_until, timeout_at};

/// Stands for "never" where the platform's clock cannot represent the sum.
const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);

/// `instant + duration`, saturating.
pub(crate) fn after(instant: Instant, duration: Duration) -> Instant {
    instant
        .checked_add(duration)
        .unwrap_or_else(|| instant + FAR_FUTURE)
}
