//! What `-v` shows: the library's own events, one line for each node's vote.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use tracing_subscriber::{
    Layer, filter::LevelFilter, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::colour;

/// How many lines wait for somebody to read them; further ones are lost.
const LINES: usize = 1000;

/// For how long the last lines are waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Writes lines to standard error from a thread of its own: nobody who keeps a lock waits for who does not
/// read.
#[derive(Clone)]
struct Lossy {
    lines: SyncSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

/// What was begun by [`start`].
pub(crate) struct Log(Option<Lossy>);

/// Writes the events to standard error, if that is wanted.
pub(crate) fn start(verbose: bool) -> Log {
    if !verbose {
        return Log(None);
    }
    let lossy = Lossy::start();
    let writer = lossy.clone();
    let lines = fmt::layer()
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(colour::wanted(&io::stderr()))
        .with_writer(move || writer.clone());
    let ours = Targets::new().with_target("redlock", LevelFilter::TRACE);
    tracing_subscriber::registry()
        .with(lines.with_filter(ours))
        .init();
    Log(Some(lossy))
}

impl Log {
    /// Waits a moment until what was said is written.
    pub(crate) fn finish(&self) {
        let start = Instant::now();
        let Self(Some(lossy)) = self else { return };
        while lossy.waiting.load(SeqCst) > 0 && start.elapsed() < PATIENCE {
            sleep(Duration::from_millis(1));
        }
    }
}

impl Lossy {
    fn start() -> Self {
        let (lines, read) = sync_channel::<Vec<u8>>(LINES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        spawn(move || {
            for line in read {
                // Nobody is left to be told when this fails.
                let _ = io::stderr().write_all(&line);
                written.fetch_sub(1, SeqCst);
            }
        });
        Self { lines, waiting }
    }
}

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.fetch_add(1, SeqCst);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.waiting.fetch_sub(1, SeqCst);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
