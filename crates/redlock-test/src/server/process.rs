//! A process that ends with the value that stands for it.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// Runs the program, says its process id, and ends it as soon as its own input ends: which it does
/// when the fixture is dropped and also when the test process dies in whatever way.
const WATCHDOG: &str = r#""$@" </dev/null >/dev/null 2>&1 & echo $!; read -r _; kill -9 $!; wait"#;

#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    watchdog: Child,
    /// Closing it ends the process.
    input: Option<ChildStdin>,
}

impl Process {
    pub(super) fn spawn<A: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "sh"])
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let input = watchdog.stdin.take();
        let mut line = String::new();
        BufReader::new(watchdog.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the watchdog says the process id");
        let pid = line
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        Self {
            pid,
            watchdog,
            input,
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process can be signalled");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.watchdog.wait();
    }
}
