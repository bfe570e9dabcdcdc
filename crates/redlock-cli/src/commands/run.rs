//! `redlock run`.

use std::{ffi::OsString, process::Command, time::Duration};

use clap::Args;
use redlock::{Error, KeptLock, Resources};

use crate::{
    cli::Global,
    exit::{Code, Failure, quoted, say},
    inner::trampoline,
    job::Job,
    patience::Patience,
    session,
    signals::{ENDING, OTHER, Signals},
    supervise::{End, Times, supervise},
    waiting_line::WaitingLine,
    watchdog::Watchdog,
};

const HELP: &str = "\
The lock is kept alive until the command and all that it has started have ended. If the lock cannot be
kept, they are sent SIGTERM, and after the grace SIGKILL: in time before the lock ends, if the grace is at
most a third of the ttl. Signals are passed on to the process group of the command.
The command finds REDLOCK_RESOURCE (several one a line), REDLOCK_VALUE and, with --fencing,
REDLOCK_FENCING_TOKEN in its environment.

Example:
  redlock run --wait 10m nightly-report -- ./report.sh --all";

/// Where the command finds its fencing token.
const TOKEN: &str = "REDLOCK_FENCING_TOKEN";

/// Run a command under a lock
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Run {
    /// How long the lock lasts without being extended
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    ttl: Duration,

    #[command(flatten)]
    patience: Patience,

    /// The time between SIGTERM and SIGKILL
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    grace: Duration,

    #[arg(long, help = "Give the lock a fencing token [env: REDLOCK_FENCING=1]")]
    fencing: bool,

    /// Run COMMAND through `sh -c`; its ARGs are $1 and so on
    #[arg(long)]
    shell: bool,

    /// What to lock; several are locked together, all or none
    #[arg(value_name = "RESOURCE", required = true)]
    resources: Vec<String>,

    /// What to run
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

impl Run {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let resources = Resources::new(self.resources.clone())?;
        let line = WaitingLine::new(global.verbose);
        let settings = |builder| self.patience.settings(builder);
        session::run_acquiring(global, self.fencing, settings, async |redlock| {
            let mut signals = Signals::listen(ENDING)?;
            let lock = self
                .patience
                .acquire(&redlock, &resources, self.ttl, &mut signals, line)
                .await?;
            let kept = lock.keep_alive();
            // Before the command is there, to which they are sent from now on.
            let heard = signals.add(OTHER).map_err(Failure::from);
            let end = match heard.and_then(|()| self.start(&kept)) {
                Ok(job) => supervise(job, &mut signals, &kept.signal(), self.times()).await,
                Err(failure) => End::Gone(Err(failure)),
            };
            match end {
                End::Gone(ended) => release(kept, ended).await,
                // Who goes on must not see the lock released: it ends with its ttl, and with us its extensions.
                End::Stubborn(failure) => failure.exit(),
            }
        })
    }

    /// No more than a third of the ttl is for ending the command: the rest is for extending the lock.
    fn times(&self) -> Times {
        Times {
            margin: self.grace.min(self.ttl / 3),
            grace: self.grace,
        }
    }

    fn start(&self, kept: &KeptLock) -> Result<Job, Failure> {
        let value = kept.value().as_str();
        let mut command = trampoline(&self.command())?;
        command
            .env("REDLOCK_RESOURCE", kept.resources().join("\n"))
            .env("REDLOCK_VALUE", value)
            // That of a lock around this one is none of this one's.
            .env_remove(TOKEN);
        if let Some(token) = kept.fencing_token() {
            command.env(TOKEN, token.to_string());
        }
        let watchdog = Watchdog::start()?;
        // We may have stood still since it was granted.
        if kept.validity() <= self.times().margin {
            let message = "the lock was lost before the command was started";
            return Err(Failure::new(Code::Lost, message));
        }
        Ok(Job::start(
            &mut command,
            format!("REDLOCK_VALUE={value}"),
            watchdog,
        )?)
    }

    fn command(&self) -> Command {
        if self.shell {
            let mut command = Command::new("sh");
            let (script, args) = self.command.split_at(1);
            command.arg("-c").args(script).arg("redlock").args(args);
            return command;
        }
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }
}

/// Releases the lock after the command; its code, or that the lock has not lasted.
async fn release(kept: KeptLock, ended: Result<u8, Failure>) -> Result<u8, Failure> {
    let resources = kept.resources().clone();
    match kept.release().await {
        Err(error @ Error::Lost(_)) if ended.is_ok() => Err(Failure::lock(&resources, &error)),
        Err(Error::NoQuorum(votes)) => {
            let names = quoted(&resources);
            say(&format!(
                "{names}: the release is not confirmed, the ttl frees it: {votes}"
            ));
            ended
        }
        _ => ended,
    }
}
