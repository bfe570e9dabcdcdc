//! Staying with a command until nobody is left of it, and no longer than its lock.

use std::{
    future::{pending, ready},
    time::Duration,
};

use redlock::LostSignal;
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    exit::{Code, Failure, say},
    job::{Change, Job},
    signals::{OTHER, Signals},
};

/// How often a group is looked at whose leader has ended: nobody tells when the others have.
const LOOK: Duration = Duration::from_millis(5);

/// How long what was killed may take to vanish.
const STUBBORN: Duration = Duration::from_secs(5);

/// Later than anything that is waited for.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// So long before the lock ends the command is asked to end.
    pub(crate) margin: Duration,
    /// So long after having been asked it is killed.
    pub(crate) grace: Duration,
}

/// How far the group has been brought towards its end.
#[derive(Clone, Copy)]
enum Ending {
    No,
    Asked { kill_at: Instant },
    Killed { give_up_at: Instant },
}

impl Ending {
    /// Asks the group to end, unless it was.
    fn ask(&mut self, job: &Job, grace: Duration) {
        if let Self::No = self {
            job.signal(Signal::TERM);
        }
        self.kill_in(grace);
    }

    /// Kills it so soon, or sooner if that was said before.
    fn kill_in(&mut self, grace: Duration) {
        let now = Instant::now();
        let kill_at = now.checked_add(grace).unwrap_or(now + FAR);
        match self {
            Self::No => *self = Self::Asked { kill_at },
            Self::Asked { kill_at: before } => *before = kill_at.min(*before),
            Self::Killed { .. } => {}
        }
    }

    /// When something is to be done about it.
    async fn due(self) {
        match self {
            Self::No => pending().await,
            Self::Asked { kill_at: time } | Self::Killed { give_up_at: time } => {
                sleep_until(time).await;
            }
        }
    }
}

/// The code the command ended with, or that the lock was lost first.
pub(crate) async fn supervise(
    mut job: Job,
    signals: &mut Signals,
    lock: &LostSignal,
    times: Times,
) -> Result<u8, Failure> {
    signals.add(OTHER)?;
    let mut ending = Ending::No;
    let (mut code, mut lost, mut stopped) = (None, false, false);
    loop {
        tokio::select! {
            biased;
            () = nearly_lost(lock, times.margin), if !lost => {
                lost = true;
                // What was noticed late, after a pause of ours, is not granted the time that has passed.
                let late = times.margin.saturating_sub(lock.validity());
                ending.ask(&job, times.grace.saturating_sub(late));
            }
            // Only here, behind the look at the lock, which may have ended meanwhile.
            () = ready(()), if stopped => {
                stopped = false;
                job.signal(Signal::CONT);
            }
            () = ending.due() => {
                if let Ending::Killed { .. } = ending {
                    say("what was killed does not end");
                    break;
                }
                job.signal(Signal::KILL);
                ending = Ending::Killed { give_up_at: Instant::now() + STUBBORN };
            }
            change = job.changed() => match change {
                Change::Ended(ended) => code = Some(ended),
                Change::Stopped(signal) => stopped = job.stopped(signal),
            },
            signal = signals.next() => job.signal(signal),
            () = sleep(LOOK), if code.is_some() => {}
        }
        if code.is_some() {
            if job.is_gone() {
                break;
            }
            // What it has left behind.
            ending.ask(&job, times.grace);
        }
    }
    job.finish();
    if lost {
        let message = "the lock was lost; the command was ended";
        return Err(Failure::new(Code::Lost, message));
    }
    // Without one the command itself does not end.
    Ok(code.unwrap_or(Code::System as u8))
}

/// Returns when no more than this is left of the lock.
async fn nearly_lost(lock: &LostSignal, margin: Duration) {
    loop {
        let left = lock.validity().saturating_sub(margin);
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = lock.lost() => return,
            () = sleep(left) => {}
        }
    }
}
