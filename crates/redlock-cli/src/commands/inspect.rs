//! `redlock inspect`.

use clap::Args;
use redlock::Resources;

use crate::{
    cli::Global,
    commands::print,
    exit::Failure,
    inspection::{Inspected, inspect},
    session,
};

const HELP: &str = "\
It only reads, and what it tells may be out of date at once: it is for people and logs, and no lock.
The exit code is 0 whoever holds what, and 69 if those nodes would decide that gave no answer.

Example:
  redlock inspect deploy
  redlock inspect --json deploy | jq -r .verdict    # free, held, split or unknown";

/// Tell who holds a resource, on every node
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Inspect {
    /// One JSON object a line for each resource
    #[arg(long)]
    json: bool,

    /// What to ask for, each on its own
    #[arg(value_name = "RESOURCE", required = true)]
    resources: Vec<String>,
}

impl Inspect {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let resources = Resources::new(self.resources)?;
        session::run(
            global,
            |builder| builder,
            async |redlock| {
                let inspected = inspect(&redlock, &resources).await?;
                let text = if self.json {
                    inspected
                        .iter()
                        .map(Inspected::json)
                        .collect::<Result<String, _>>()?
                } else {
                    let tables: Vec<_> = inspected.iter().map(Inspected::table).collect();
                    tables.join("\n")
                };
                print(text.as_bytes())?;
                inspected.iter().try_for_each(Inspected::known)?;
                Ok(0)
            },
        )
    }
}
