//! `redlock acquire`.

use std::time::Duration;

use clap::Args;
use redlock::{FencingToken, Lock, Resources};
use serde::Serialize;

use crate::{
    cli::Global,
    commands::{can_print, print},
    exit::Failure,
    inspection::to_json,
    patience::Patience,
    session,
    signals::{ENDING, Signals},
    waiting_line::WaitingLine,
};

const HELP: &str = "\
Nothing keeps the lock alive: it ends with its ttl unless it is extended. With --fencing a second line is
the fencing token, a number that is greater than that of every lock of the resource before it.

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

    #[arg(
        long,
        help = "Give the lock a fencing token, in a second line [env: REDLOCK_FENCING=1]"
    )]
    fencing: bool,

    /// One JSON object with all there is to know
    #[arg(long)]
    json: bool,

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
        session::run_acquiring(global, self.fencing, settings, async |redlock| {
            let mut signals = Signals::listen(ENDING)?;
            let lock = patience
                .acquire(&redlock, &resources, self.ttl, &mut signals, line)
                .await?;
            let printed = text(&lock, self.json).and_then(|text| print(text.as_bytes()));
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

/// What a program reads; every field is always there. The README tells what they mean.
#[derive(Serialize)]
struct Report<'a> {
    resources: Vec<&'a str>,
    value: &'a str,
    fencing_token: Option<u64>,
    validity_ms: u64,
}

/// The value, and in a second line the fencing token, if there is one; or all of it as JSON.
fn text(lock: &Lock, json: bool) -> Result<String, Failure> {
    let (value, token) = (lock.value().as_str(), lock.fencing_token());
    if json {
        return to_json(&Report {
            resources: lock.resources().iter().map(|name| &**name).collect(),
            value,
            fencing_token: token.map(FencingToken::get),
            validity_ms: u64::try_from(lock.validity().as_millis()).unwrap_or(u64::MAX),
        });
    }
    let token = token.map(|token| format!("{token}\n"));
    Ok(format!("{value}\n{}", token.unwrap_or_default()))
}
