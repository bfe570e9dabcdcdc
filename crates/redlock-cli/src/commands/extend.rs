//! `redlock extend`.

use std::time::Duration;

use clap::Args;

use crate::{cli::Global, commands::by_value::ByValue, exit::Failure, session};

/// Have a lock last for longer
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  redlock extend --ttl 10m deploy --value \"$value\"")]
pub(crate) struct Extend {
    /// How long the lock lasts from now on
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    ttl: Duration,

    #[command(flatten)]
    lock: ByValue,
}

impl Extend {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let (resources, value) = self.lock.parse()?;
        session::run(
            global,
            |builder| builder,
            async |redlock| match redlock.extend(&resources, value, self.ttl).await {
                Ok(_) => Ok(0),
                Err(error) => Err(Failure::lock(&resources, &error)),
            },
        )
    }
}
