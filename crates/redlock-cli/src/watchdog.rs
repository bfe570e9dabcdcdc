//! A process that outlives us for as long as it takes to end the command.

use std::{
    io::{self, BufRead, Write, stdin},
    process::{ChildStdin, ExitCode, Stdio},
    thread::sleep,
    time::Duration,
};

use nix::sys::signal::SigSet;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process_group, waitpid,
};

use crate::{
    inner::{WATCHDOG, ourselves},
    processes::{number, with_environment},
};

/// How often it tries to kill who is left.
const ROUNDS: usize = 200;

/// The time in between.
const PAUSE: Duration = Duration::from_millis(5);

/// Kills the command when this process ends in whatever way, unless it is dismissed before.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pid: Pid,
    /// Closed with our end, whatever ends us.
    input: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts it; nothing is watched yet.
    pub(crate) fn start() -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut started = ourselves(WATCHDOG)?
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is sent to our group is not meant for it.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            pid: Pid::from_child(&started),
            input: started.stdin.take(),
        })
    }

    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// From now on those are watched who carry this entry in the environment.
    pub(crate) fn watch(&mut self, mark: &str) -> io::Result<()> {
        self.tell(mark)
    }

    /// And this group, too.
    pub(crate) fn watch_group(&mut self, group: Pid) -> io::Result<()> {
        self.tell(group)
    }

    /// Ends it without killing anything.
    pub(crate) fn dismiss(mut self) {
        let _ = self.tell("farewell");
    }

    fn tell(&mut self, line: impl std::fmt::Display) -> io::Result<()> {
        self.input
            .as_mut()
            .map_or(Ok(()), |input| writeln!(input, "{line}"))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.input = None;
        // When it fails somebody has buried it already.
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// The part of the watchdog itself: is told what to watch in two lines, the second one when the command has been
/// started. A third is a farewell; without one who told it was killed.
pub(crate) fn watch() -> ExitCode {
    // It ends by itself, and by nothing that is sent to everybody.
    let _ = SigSet::all().thread_block();
    let mut lines = stdin().lock().lines().map_while(Result::ok);
    if let Some(mark) = lines.next() {
        let group = lines.next().and_then(|group| number(&group));
        if lines.next().is_none() {
            kill(group, &mark);
        }
    }
    ExitCode::SUCCESS
}

/// Kills the group and the others until nobody is left; who starts new ones is killed with them sooner or later.
fn kill(group: Option<Pid>, mark: &str) {
    for _ in 0..ROUNDS {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let others = with_environment(mark);
        for pid in &others {
            let _ = kill_process(*pid, Signal::KILL);
        }
        if others.is_empty() && group.is_none_or(|group| test_kill_process_group(group).is_err()) {
            return;
        }
        sleep(PAUSE);
    }
}
