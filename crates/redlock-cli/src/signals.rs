//! The signals that are sent to us.

use std::{fs, future::poll_fn, io, task::Poll};

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Those that ask for an end.
pub(crate) const ENDING: &[Signal] = &[Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Those that mean something to a command only.
pub(crate) const OTHER: &[Signal] = &[
    Signal::CONT,
    Signal::TSTP,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
];

/// Receives signals instead of being ended or stopped by them.
pub(crate) struct Signals(Vec<(Signal, Stream)>);

impl Signals {
    /// From now on these are received, unless they are ignored: `nohup` means the command, too.
    pub(crate) fn listen(signals: &[Signal]) -> io::Result<Self> {
        let mut listening = Self(Vec::new());
        listening.add(signals)?;
        Ok(listening)
    }

    /// From now on these are received, too.
    pub(crate) fn add(&mut self, signals: &[Signal]) -> io::Result<()> {
        let ignored = ignored();
        for listened in signals.iter().filter(|it| !is_in(ignored, **it)) {
            let stream = signal(SignalKind::from_raw(listened.as_raw()))?;
            self.0.push((*listened, stream));
        }
        Ok(())
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            for (signal, stream) in &mut self.0 {
                if stream.poll_recv(cx).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The signals that whoever started us wants to be ignored, as a set of bits; none where that is not told.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

fn is_in(set: u64, signal: Signal) -> bool {
    set >> (signal.as_raw() - 1) & 1 == 1
}
