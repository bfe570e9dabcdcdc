//! `redlock release`.

use clap::Args;

use crate::{cli::Global, commands::by_value::ByValue, exit::Failure, session};

/// Give a lock back
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  redlock release deploy --value \"$value\"")]
pub(crate) struct Release {
    #[command(flatten)]
    lock: ByValue,
}

impl Release {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let (resources, value) = self.lock.parse()?;
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
