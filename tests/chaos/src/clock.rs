//! The clock that processes of one machine share.

use std::time::Duration;

use redlock::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Carries instants from process to process as nanoseconds of the system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    instant: Instant,
    nanos: u64,
}

impl Clock {
    /// Reads both clocks at once: of many readings, the one with the least time between.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it reads the clocks")]
    pub fn new() -> Self {
        let reading = || {
            let (before, instant, after) = (monotonic(), Instant::now(), monotonic());
            let nanos = before.midpoint(after);
            (after - before, Self { instant, nanos })
        };
        let readings = (0..1000).map(|_| reading());
        let best = readings.min_by_key(|(took, _)| *took);
        best.map_or_else(|| reading().1, |(_, best)| best)
    }

    /// This instant for other processes.
    #[must_use]
    pub fn nanos(&self, at: Instant) -> u64 {
        match at.checked_duration_since(self.instant) {
            Some(after) => self.nanos.saturating_add(nanos(after)),
            None => self.nanos.saturating_sub(nanos(self.instant - at)),
        }
    }

    /// An instant that another process told.
    #[must_use]
    pub fn instant(&self, at: u64) -> Instant {
        match at.checked_sub(self.nanos) {
            Some(after) => self.instant + Duration::from_nanos(after),
            None => self.instant - Duration::from_nanos(self.nanos - at),
        }
    }
}

fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    nanos(Duration::try_from(time).expect("it starts at zero"))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_the_way_through_another_process() {
        let (here, there) = (Clock::new(), Clock::new());
        let now = Instant::now();
        for at in [
            now,
            now + Duration::from_secs(9),
            now - Duration::from_secs(1),
        ] {
            let back = there.instant(here.nanos(at));
            let off = back.max(at) - back.min(at);
            assert!(off < Duration::from_micros(100), "{off:?}");
        }
    }
}
