//! `redlock completions`.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{cli::Cli, commands::print, exit::Failure};

/// Print the completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  redlock completions bash > /etc/bash_completion.d/redlock")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn execute(self) -> Result<u8, Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "redlock", &mut script);
        print(&script).map(|()| 0)
    }
}
