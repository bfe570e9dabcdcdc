//! `redlock acquire`.

use std::time::Duration;

use clap::Args;
use redlock::Resources;

use crate::{
    cli::Global,
    commands::{can_print, print},
    exit::Failure,
    patience::Patience,
    session,
    signals::{ENDING, Signals},
    waiting_line::WaitingLine,
};

const HELP: &str = "\
Nothing keeps the lock alive: it ends with its ttl unless it is extended.

Example:
  value=$(redlock acquire --ttl 10m deploy) || exit
  ./deploy.sh
  redlock release deploy --value \"$value\"";

/// Take a lock and print its value
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Acquire {
    /// How long the lock lasts
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    ttl: Duration,

    #[command(flatten)]
    patience: Patience,

    /// What to lock; several are locked together, all or none
    #[arg(value_name = "RESOURCE", required = true)]
    resources: Vec<String>,
}

impl Acquire {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let resources = Resources::new(self.resources)?;
        // Who does not want to know the value has a ttl in mind; a closed output is a mistake.
        can_print()?;
        let (patience, line) = (self.patience, WaitingLine::new(global.verbose));
        let settings = |builder| patience.settings(builder);
        session::run(global, settings, async |redlock| {
            let mut signals = Signals::listen(ENDING)?;
            let lock = patience
                .acquire(&redlock, &resources, self.ttl, &mut signals, line)
                .await?;
            let printed = print(format!("{}\n", lock.value().as_str()).as_bytes());
            if printed.is_err() {
                // Nobody could.
                let _ = lock.release().await;
                return printed.map(|()| 0);
            }
            let _ = lock.leak();
            Ok(0)
        })
    }
}
