//! The parts that this program plays when it starts itself, told apart by the name it is started with.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use rustix::process::{getpid, getppid};

use crate::{
    exit::{Code, Failure},
    processes::number,
    watchdog,
};

pub(crate) const WATCHDOG: &str = "redlock-watchdog";
const TRAMPOLINE: &str = "redlock-trampoline";

/// Ourselves, to be started by this name.
pub(crate) fn ourselves(name: &str) -> io::Result<Command> {
    // Also after the file was replaced by a newer one.
    let path = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        env::current_exe()?
    };
    let mut command = Command::new(path);
    command.arg0(name);
    Ok(command)
}

/// A process that becomes the command, as soon as it is sure to die with us.
pub(crate) fn trampoline(command: &Command) -> io::Result<Command> {
    let mut trampoline = ourselves(TRAMPOLINE)?;
    trampoline
        .arg(getpid().to_string())
        .arg(command.get_program())
        .args(command.get_args());
    Ok(trampoline)
}

/// Plays the part that we were started for; `None` for the command line of a user.
pub(crate) fn play() -> Option<ExitCode> {
    let mut args = env::args_os();
    match args.next()?.to_str()? {
        WATCHDOG => Some(watchdog::watch()),
        TRAMPOLINE => Some(jump(args).report()),
        _ => None,
    }
}

/// Returns only if it fails.
fn jump(mut args: impl Iterator<Item = OsString>) -> Failure {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        return io::Error::from(error).into();
    }
    let parent = args.next().and_then(|pid| number(pid.to_str()?));
    // It may have died before.
    if parent != getppid() {
        return Failure::new(Code::System, "who was to guard the command is gone");
    }
    let program = args.next().unwrap_or_default();
    let error = Command::new(&program).args(args).exec();
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        _ => Code::NotExecutable,
    };
    Failure::new(code, format_args!("{}: {error}", program.display()))
}
