//! Clocks that the standard library does not read.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What this process has computed so far, user and system.
#[must_use]
pub fn cpu_time() -> Duration {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// Now, on a clock that all processes of this machine share.
#[must_use]
pub fn shared_now() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("every Unix has it").into()
}
