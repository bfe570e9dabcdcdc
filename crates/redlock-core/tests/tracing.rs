//! Every span and event that the documentation names, and no lock value in any of them.
//!
//! A process of its own: which spans and events are of interest is decided for the whole process.

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
};

use common::everything::{everything_fresh, run};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn every_tracing_event_and_span_of_the_documentation_appears_and_shows_no_value() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let values = tracing::subscriber::with_default(subscriber, || run(everything_fresh));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "TRACE acquire{resources=a}:attempt{number=1}: redlock: vote node=memory",
        "DEBUG acquire{resources=b}:attempt{number=1}: redlock: node error node=memory",
        "DEBUG redlock: acquired resources=a attempts=1 waited=",
        "DEBUG redlock: not acquired resources=a attempts=1 waited=",
        "DEBUG extend{resources=a}: redlock: renewed resources=a validity=",
        "INFO extend{resources=a}: redlock: renewal failed resources=a validity=",
        "INFO extend{resources=a}: redlock: healed resources=a node=memory",
        "TRACE release{resources=a}: redlock: vote node=memory",
        "DEBUG redlock: released resources=a held=",
        "WARN extend{resources=d}: redlock: lost resources=d held=",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    for value in values {
        assert!(!text.contains(&value), "{value} is in:\n{text}");
    }
}

#[test]
fn the_spans_of_an_acquisition_are_closed_while_the_lock_is_held() {
    use tracing_subscriber::fmt::format::FmtSpan;

    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let redlock = redlock_core::Redlock::new([redlock_core::MemoryBackend::new()]).unwrap();
            let lock = redlock.acquire("a", common::TTL).await.unwrap();
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            lock.release().await.unwrap();
            for expected in [
                "acquire{resources=a}:attempt{number=1}: redlock: close",
                "acquire{resources=a}: redlock: close",
            ] {
                assert!(text.contains(expected), "{expected} is not in:\n{text}");
            }
        });
    });
}
