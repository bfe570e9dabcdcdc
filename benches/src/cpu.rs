//! Clocks that the standard library does not read.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// What this process has computed so far, user and system.
#[must_use]
pub fn cpu_time() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// Now, on a clock that all processes of this machine share.
#[must_use]
pub fn shared_now() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).expect("not before it was started")
}
