//! A command in a process group of its own, which never outlives us.

use std::{io, os::unix::process::CommandExt, process::Command, thread::sleep, time::Duration};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitOptions, WaitStatus, getpgrp, kill_process, kill_process_group,
        test_kill_process_group, wait, waitpid,
    },
};
use tokio::signal::unix::{self, SignalKind};

use crate::{exit::signal_code, processes::descendants, terminal::Terminal, watchdog::Watchdog};

/// Between two attempts to read from a terminal that is another's.
const PAUSE: Duration = Duration::from_millis(10);

/// A running command, and whatever it starts.
pub(crate) struct Job {
    /// Also the process id of the command.
    group: Pid,
    /// What is found in the environment of all that it starts.
    mark: String,
    watchdog: Watchdog,
    /// Arrive whenever a child has ended or stopped.
    children: unix::Signal,
}

/// Something that happened to the command itself, or to who guards it.
pub(crate) enum Change {
    /// With this code, or 128 and the signal.
    Ended(u8),
    /// By this signal.
    Stopped(Signal),
    /// The watchdog has ended, and there is no other.
    Unguarded(io::Error),
}

impl Job {
    /// Starts the command, which has this entry in its environment, behind this watchdog.
    pub(crate) fn start(
        command: &mut Command,
        mark: String,
        mut watchdog: Watchdog,
    ) -> io::Result<Self> {
        // What a parent leaves behind becomes our child: so nobody gets lost, and there is no zombie.
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let children = unix::signal(SignalKind::child())?;
        // Before the command is there: we may be killed at any moment.
        watchdog.watch(&mark)?;
        let group = Pid::from_child(&command.process_group(0).spawn()?);
        let mut job = Self {
            group,
            mark,
            watchdog,
            children,
        };
        let watched = job.watchdog.watch_group(group);
        if let Err(error) = watched.or_else(|_| job.replace_watchdog()) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = waitpid(Some(group), WaitOptions::empty());
            return Err(error);
        }
        Ok(job)
    }

    fn replace_watchdog(&mut self) -> io::Result<()> {
        self.watchdog = Watchdog::start()?;
        self.watchdog.watch(&self.mark)?;
        self.watchdog.watch_group(self.group)
    }

    /// Sends the signal to the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        // When it fails nobody is left, or nobody whom we may signal.
        let _ = kill_process_group(self.group, signal);
        if matches!(signal, Signal::TERM | Signal::HUP) {
            // What is stopped cannot end itself.
            let _ = kill_process_group(self.group, Signal::CONT);
        }
    }

    /// Sends the signal to everybody, also to who has left the group.
    pub(crate) fn end(&self, signal: Signal) {
        self.signal(signal);
        for other in descendants(self.watchdog.pid()) {
            if other.group != Some(self.group) && !other.zombie {
                let _ = kill_process(other.pid, signal);
                let _ = kill_process(other.pid, Signal::CONT);
            }
        }
    }

    /// Whether nobody is left; to be asked after the command has ended.
    pub(crate) fn is_gone(&self) -> bool {
        // Who has become another user may not be signalled, but is there.
        test_kill_process_group(self.group) == Err(Errno::SRCH)
            && descendants(self.watchdog.pid()).is_empty()
    }

    /// Who is left, for people; nothing where that is not told.
    pub(crate) fn left(&self) -> String {
        let left = descendants(self.watchdog.pid());
        let left = left.iter().filter(|process| !process.zombie);
        let left: Vec<_> = left.map(|process| process.pid.to_string()).collect();
        left.join(", ")
    }

    /// Waits for the next change of the command, and buries everybody else.
    pub(crate) async fn changed(&mut self) -> Change {
        loop {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                if pid == self.watchdog.pid()
                    && status.stopping_signal().is_none()
                    && let Err(error) = self.replace_watchdog()
                {
                    return Change::Unguarded(error);
                }
                if let Some(change) = change(status).filter(|_| pid == self.group) {
                    return change;
                }
            }
            self.children.recv().await;
        }
    }

    /// The command was stopped by this signal: as a job of a terminal it is given the terminal if that is what
    /// it stopped for, or else we stop as well, until somebody has us continue. Whether it is to continue now.
    ///
    /// Without a terminal, whoever stopped it will let it go on.
    pub(crate) fn stopped(&self, signal: Signal) -> bool {
        let Some(terminal) = Terminal::open() else {
            return false;
        };
        let mut wants_it = matches!(signal, Signal::TTIN | Signal::TTOU);
        if !(wants_it && terminal.is_ours()) {
            wants_it |= terminal.is_with(self.group);
            terminal.take_from(self.group);
            // Stops us as well, unless nobody is there who could have us continue, as a shell would: we have no
            // handler for it.
            let _ = kill_process_group(getpgrp(), Signal::TTIN);
            // Here we are continued. If we were not stopped, this keeps us from asking all the time.
            sleep(PAUSE);
        }
        if wants_it && terminal.is_ours() {
            terminal.give_to(self.group);
        }
        true
    }

    /// Takes the terminal back, and dismisses the watchdog, when nobody is left.
    pub(crate) fn finish(self) {
        if let Some(terminal) = Terminal::open() {
            terminal.take_from(self.group);
        }
        self.watchdog.dismiss();
    }
}

fn change(status: WaitStatus) -> Option<Change> {
    let ended = status
        .exit_status()
        .map(|code| u8::try_from(code).unwrap_or(u8::MAX))
        .or_else(|| status.terminating_signal().map(signal_code))
        .map(Change::Ended);
    let stopped = || status.stopping_signal().and_then(Signal::from_named_raw);
    ended.or_else(|| stopped().map(Change::Stopped))
}
