//! `redlock release`.

use clap::Args;
use redlock::{LockValue, Resources};

use crate::{cli::Global, exit::Failure, session};

/// Give a lock back
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  redlock release deploy --value \"$value\"")]
pub(crate) struct Release {
    /// What `redlock acquire` has printed
    #[arg(long, env = "REDLOCK_VALUE", hide_env_values = true)]
    value: String,

    /// What is locked: all that was locked together
    #[arg(value_name = "RESOURCE", required = true)]
    resources: Vec<String>,
}

impl Release {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let resources = Resources::new(self.resources)?;
        let value: LockValue = self.value.parse()?;
        session::run(
            global,
            |builder| builder,
            async |redlock| match redlock.release(&resources, value).await {
                Ok(()) => Ok(0),
                Err(error) => Err(Failure::lock(&resources, &error)),
            },
        )
    }
}
