//! For how long is waited for a lock that another holds?

use std::time::Duration;

use clap::Args;
use redlock::{Error, Lock, Redlock, RedlockBuilder, Resources};
use tokio::time::sleep;

use crate::{
    exit::{Failure, quoted},
    signals::Signals,
    waiting_line::WaitingLine,
};

/// Between two series of attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// How it is waited.
#[derive(Args, Debug)]
pub(crate) struct Patience {
    /// Give up at once when it is locked by another
    #[arg(short, long, conflicts_with = "wait")]
    no_wait: bool,

    /// Give up after this time [default: wait while it is locked by another]
    #[arg(short, long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,

    /// The exit code when it stays locked by another; silent with 0
    #[arg(long, value_name = "CODE", default_value = "75")]
    conflict_exit_code: Option<u8>,
}

impl Patience {
    pub(crate) fn settings(&self, builder: RedlockBuilder) -> RedlockBuilder {
        match self.wait {
            Some(limit) => builder.max_wait(limit).retry_count(u32::MAX),
            None => builder,
        }
    }

    /// Acquires the lock; a signal ends the wait, and nothing stays on the nodes.
    pub(crate) async fn acquire(
        &self,
        redlock: &Redlock,
        resources: &Resources,
        ttl: Duration,
        signals: &mut Signals,
        line: WaitingLine,
    ) -> Result<Lock, Failure> {
        let outcome = tokio::select! {
            biased;
            signal = signals.next() => {
                let message = format!("{}: the wait was interrupted", quoted(resources));
                Err(Failure::signalled(signal.as_raw(), message))
            }
            outcome = self.attempts(redlock, resources, ttl) => outcome.map_err(|error| {
                Failure::lock(resources, &error).on_conflict(self.conflict_exit_code)
            }),
            never = line.show(redlock, resources, self.wait) => match never {},
        };
        if outcome.is_err() && !self.no_wait {
            // Behind what takes us out of a node's line: it is done when this is answered.
            let _ = redlock.inspect(&*resources[0]).await;
        }
        outcome
    }

    /// A limit holds for contention and for outages; without one an outage is not waited out.
    async fn attempts(
        &self,
        redlock: &Redlock,
        resources: &Resources,
        ttl: Duration,
    ) -> Result<Lock, Error> {
        if self.no_wait {
            return redlock.try_acquire(resources, ttl).await;
        }
        loop {
            match redlock.acquire(resources, ttl).await {
                Err(Error::Locked(_)) if self.wait.is_none() => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }
}
