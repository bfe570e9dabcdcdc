//! `redlock man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::{Man as Page, generate_to};

use crate::{
    cli::Cli,
    commands::print,
    exit::{Code, Failure},
};

/// Print the man page, or write those of all commands
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  redlock man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// The directory to write them to
    directory: Option<PathBuf>,
}

impl Man {
    pub(crate) fn execute(self) -> Result<u8, Failure> {
        let mut page = Vec::new();
        let written = match self.directory {
            Some(directory) => generate_to(Cli::command(), directory),
            None => Page::new(Cli::command()).render(&mut page),
        };
        written.map_err(|error| Failure::new(Code::Output, error))?;
        print(&page).map(|()| 0)
    }
}
