//! `redlock`, the command: locks for scripts, cron jobs and operators.
//!
//! It takes, keeps and releases locks through the library and has no logic of its own about them. What it
//! adds is what surrounds a lock in a shell: where the nodes are listed, how long is waited, and a command that never
//! outlives its lock.

mod cli;
mod colour;
mod commands;
mod config;
mod exit;
mod health;
mod inner;
mod inspection;
mod job;
mod log;
mod node;
mod patience;
mod processes;
mod screen;
mod session;
mod signals;
mod supervise;
mod table;
mod terminal;
mod waiting_line;
mod watchdog;

use std::{env, ffi::OsString, process::ExitCode};

use clap::{Parser, error::ErrorKind};
use nix::sys::signal::SigSet;

use crate::{
    cli::Cli,
    exit::{Code, Failure},
};

fn main() -> ExitCode {
    if let Some(code) = inner::play() {
        return code;
    }
    // Whoever started us may have blocked what we are to be told by, such as that a child has ended.
    let _ = SigSet::all().thread_unblock();
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    let log = log::start(global.verbose);
    let outcome = commands::execute(command, &global);
    log.finish();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

/// Help and version are what was asked for; anything else is a mistake, told in one line.
fn not_parsed(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::new(Code::Usage, "no command was given; see `redlock --help`").report();
    }
    let text = error.to_string();
    // Behind an empty line stand tips and usage.
    let reason = text.split("\n\n").next().unwrap_or_default();
    let reason = without_urls(reason.trim_start_matches("error: "), env::args_os());
    Failure::new(Code::Usage, format_args!("{reason}; see `redlock --help`")).report()
}

/// The text without those arguments that are a URL, which may contain a password.
fn without_urls(text: &str, args: impl Iterator<Item = OsString>) -> String {
    let mut text = text.to_owned();
    for arg in args {
        let arg = arg.to_string_lossy();
        // As the value of an option it is quoted without that.
        for url in [Some(&*arg), arg.split_once('=').map(|(_, value)| value)] {
            let url = url.filter(|url| url.contains("://") || url.starts_with("unix:"));
            if let Some((url, (scheme, _))) = url.and_then(|url| Some((url, url.split_once(':')?)))
            {
                text = text.replace(url, &format!("{scheme}:…"));
            }
        }
    }
    text
}
