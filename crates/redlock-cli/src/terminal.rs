//! Who may read from the terminal.

use std::fs::File;

use nix::sys::signal::{SigSet, Signal};
use rustix::{
    process::{Pid, getpgrp},
    termios::{tcgetpgrp, tcsetpgrp},
};

/// The terminal that controls us.
#[derive(Debug)]
pub(crate) struct Terminal(File);

impl Terminal {
    /// `None` if there is none, as in a cron job.
    pub(crate) fn open() -> Option<Self> {
        let file = File::options().read(true).write(true).open("/dev/tty");
        file.ok().map(Self)
    }

    /// Whether this group is in the foreground.
    pub(crate) fn is_with(&self, group: Pid) -> bool {
        tcgetpgrp(&self.0).is_ok_and(|foreground| foreground == group)
    }

    /// Whether our own group is.
    pub(crate) fn is_ours(&self) -> bool {
        self.is_with(getpgrp())
    }

    /// Puts this group into the foreground.
    pub(crate) fn give_to(&self, group: Pid) {
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        // Who is in the background is stopped for asking, unless the signal is blocked.
        let before = stop.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
        // A terminal that is gone is nobody's.
        let _ = tcsetpgrp(&self.0, group);
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
    }

    /// Puts our own group into the foreground again, if this one is there.
    pub(crate) fn take_from(&self, group: Pid) {
        if self.is_with(group) {
            self.give_to(getpgrp());
        }
    }
}
