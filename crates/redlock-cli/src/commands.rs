//! The commands, one file each.

pub(crate) mod acquire;
pub(crate) mod by_value;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod exit_codes;
pub(crate) mod extend;
pub(crate) mod force_release;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod release;
pub(crate) mod run;
pub(crate) mod watch;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::MetadataExt},
};

use rustix::fs::{OFlags, fcntl_getfl};

use crate::{
    cli::{Command, Global},
    exit::{Code, Failure},
};

/// Runs the command and gives the code to exit with.
pub(crate) fn execute(command: Command, global: &Global) -> Result<u8, Failure> {
    match command {
        Command::Run(run) => run.execute(global),
        Command::Acquire(acquire) => acquire.execute(global),
        Command::Extend(extend) => extend.execute(global),
        Command::Release(release) => release.execute(global),
        Command::Inspect(inspect) => inspect.execute(global),
        Command::Watch(watch) => watch.execute(global),
        Command::Check(check) => check.execute(global),
        Command::ForceRelease(force_release) => force_release.execute(global),
        Command::ExitCodes(exit_codes) => exit_codes.execute(),
        Command::Completions(completions) => completions.execute(),
        Command::Man(man) => man.execute(),
    }
}

/// Fails if nobody could read what is printed, as after `>&-`.
///
/// Where standard output is closed, the runtime of Rust opens `/dev/null` before `main`: for reading as well, which
/// no redirection of a shell does.
pub(crate) fn can_print() -> Result<(), Failure> {
    let is_closed = || {
        let null = fs::metadata("/dev/null")?;
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mode = fcntl_getfl(&output)? & OFlags::RWMODE;
        Ok::<_, io::Error>(output.metadata()?.rdev() == null.rdev() && mode == OFlags::RDWR)
    };
    if is_closed().unwrap_or(false) {
        return Err(Failure::new(Code::Output, "standard output is closed"));
    }
    Ok(())
}

/// Writes the bytes to standard output, all or with an error.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout();
    let written = output.write_all(bytes).and_then(|()| output.flush());
    written.map_err(|error| Failure::new(Code::Output, format_args!("standard output: {error}")))
}
