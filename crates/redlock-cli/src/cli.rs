//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    acquire::Acquire, check::Check, completions::Completions, exit_codes::ExitCodes,
    extend::Extend, force_release::ForceRelease, inspect::Inspect, man::Man, release::Release,
    run::Run, watch::Watch,
};

const EVERYWHERE: &str = "Options of every command";

const HELP: &str = "\
A node is redis://[user:password@]host:port[/database], rediss:// for TLS, unix:/path/of/socket,
redis-cluster://host:port,host:port or sentinel://host:port,host:port/master. Without --node they come
from --config, REDLOCK_NODES, REDLOCK_CONFIG, or ~/.config/redlock/config.toml. Passwords come from
there, REDLOCK_PASSWORD or REDLOCK_PASSWORD_FILE.

Example:
  redlock run --wait 10m nightly-report -- ./report.sh

Exit codes: redlock help exit-codes";

/// Locks for scripts, cron jobs and operators, over N independent Redis nodes.
#[derive(Debug, Parser)]
#[command(
    name = "redlock",
    version,
    arg_required_else_help = true,
    after_help = HELP
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    #[arg(
        long = "node",
        help = "A node; repeat it for each [env: REDLOCK_NODES]",
        value_name = "URL",
        global = true,
        conflicts_with = "config",
        help_heading = EVERYWHERE
    )]
    pub(crate) nodes: Vec<String>,

    #[arg(
        long,
        help = "The file that lists the nodes [env: REDLOCK_CONFIG]",
        value_name = "FILE",
        global = true,
        help_heading = EVERYWHERE
    )]
    pub(crate) config: Option<std::path::PathBuf>,

    #[arg(
        long,
        help = "The longest ttl in use: so long a server has no vote after a restart",
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        global = true,
        help_heading = EVERYWHERE
    )]
    pub(crate) restart_guard: Option<Duration>,

    /// Say what every node answers
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub(crate) verbose: bool,
}

/// One file each in `commands`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Acquire(Acquire),
    Extend(Extend),
    Release(Release),
    Inspect(Inspect),
    Watch(Watch),
    Check(Check),
    ForceRelease(ForceRelease),
    ExitCodes(ExitCodes),
    #[command(hide = true)]
    Completions(Completions),
    #[command(hide = true)]
    Man(Man),
}

#[cfg(test)]
mod fuzz;
