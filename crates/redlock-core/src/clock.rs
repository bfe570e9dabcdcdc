//! The one file that names `tokio::time`, so that a paused clock governs everything.

use std::{sync::OnceLock, time::Duration};

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

/// Microseconds since 1970: as the system's clock says when it is asked for the first time, and from then on by
/// tokio's clock, so that it follows when that is paused.
#[expect(clippy::disallowed_types, reason = "no lock's time is measured by it")]
pub(crate) fn unix_micros() -> u64 {
    use std::time::SystemTime;
    static FIRST: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (first, told) = *FIRST.get_or_init(|| {
        let told = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        (Instant::now(), told.unwrap_or_default())
    });
    let now = Instant::now();
    // The paused clock of one runtime may be ahead of another's.
    let behind = first.saturating_duration_since(now);
    let unix = (told + now.saturating_duration_since(first)).saturating_sub(behind);
    crate::fencing::micros(unix)
}
