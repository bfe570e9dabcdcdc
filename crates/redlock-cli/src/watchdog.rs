//! A process that outlives us for as long as it takes to end the command.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Stdio},
};

use rustix::process::{Pid, WaitOptions, waitpid};

/// Is told the group. A further line is a farewell; without one we were killed.
const SCRIPT: &str = r#"trap '' HUP INT QUIT TERM
read -r group && { read -r _ || kill -s KILL -- "-$group"; }"#;

/// Kills a process group when this process ends in whatever way, unless it is dismissed before.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pid: Pid,
    /// Closed with our end, whatever ends us.
    input: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts it; nothing is watched yet.
    pub(crate) fn start() -> io::Result<Self> {
        let mut started = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "redlock-watchdog"])
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

    /// From now on this group is watched.
    pub(crate) fn watch(&mut self, group: Pid) -> io::Result<()> {
        self.tell(group.as_raw_nonzero())
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
