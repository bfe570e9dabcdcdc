//! Staying with a command until nobody is left of it, and no longer than its lock.

use std::{
    future::{pending, ready},
    time::Duration,
};

use redlock::LostSignal;
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    exit::{Code, Failure},
    job::{Change, Job},
    signals::Signals,
};

/// How often is looked who is left: nobody tells when the others have ended.
const LOOK: Duration = Duration::from_millis(10);

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

/// How it has ended.
pub(crate) enum End {
    /// Nobody is left: the code the command ended with, or what went wrong.
    Gone(Result<u8, Failure>),
    /// Somebody is left whom we cannot end: the lock is not to be released.
    Stubborn(Failure),
}

/// How far everybody has been brought towards the end.
#[derive(Clone, Copy)]
enum Ending {
    No,
    Asked { kill_at: Instant },
    Killed { give_up_at: Instant },
}

impl Ending {
    /// Asks everybody to end, unless that was done.
    fn ask(&mut self, job: &Job, grace: Duration) {
        if let Self::No = self {
            job.end(Signal::TERM);
        }
        self.kill_in(grace);
    }

    /// Kills them so soon, or sooner if that was said before.
    fn kill_in(&mut self, grace: Duration) {
        let kill_at = Instant::now() + grace.min(FAR);
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

/// Stays with the job until nobody is left of it, or nothing more can be done.
pub(crate) async fn supervise(
    mut job: Job,
    signals: &mut Signals,
    lock: &LostSignal,
    times: Times,
) -> End {
    let mut ending = Ending::No;
    let (mut code, mut lost, mut stopped) = (None, false, false);
    let mut failure = None;
    let gone = loop {
        let looks = code.is_some() || matches!(ending, Ending::Killed { .. });
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
                    break false;
                }
                ending = Ending::Killed { give_up_at: Instant::now() + STUBBORN };
            }
            change = job.changed() => match change {
                Change::Ended(ended) => code = Some(ended),
                Change::Stopped(signal) => stopped = job.stopped(signal),
                Change::Unguarded(error) => {
                    let message = format!("nobody guards the command any more: {error}");
                    failure = Some(Failure::new(Code::System, message));
                    ending.ask(&job, times.grace);
                }
            },
            signal = signals.next() => job.signal(signal),
            () = sleep(LOOK), if looks => {}
        }
        if code.is_some() {
            if job.is_gone() {
                break true;
            }
            // What it has left behind.
            ending.ask(&job, times.grace);
        }
        if let Ending::Killed { .. } = ending {
            // Also who was started meanwhile.
            job.end(Signal::KILL);
        }
    };
    let left = job.left();
    job.finish();
    if lost {
        let message = "the lock was lost; the command was ended";
        failure = Some(Failure::new(Code::Lost, message));
    }
    if !gone {
        let message = format!("what was killed does not end ({left}); the ttl frees the lock");
        return End::Stubborn(failure.map_or_else(
            || Failure::new(Code::System, &message),
            |failure| failure.because(&message),
        ));
    }
    // Without a code the command itself has not ended.
    let code = code.unwrap_or(Code::System as u8);
    End::Gone(failure.map_or(Ok(code), Err))
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
