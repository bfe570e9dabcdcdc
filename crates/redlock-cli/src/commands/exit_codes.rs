//! `redlock exit-codes`.

use clap::Args;

use crate::{
    commands::print,
    exit::{Failure, table},
};

/// Say what the exit codes mean
#[derive(Args, Debug)]
#[command(after_help = table())]
pub(crate) struct ExitCodes {}

impl ExitCodes {
    pub(crate) fn execute(self) -> Result<u8, Failure> {
        let Self {} = self;
        print(table().as_bytes()).map(|()| 0)
    }
}
