//! One connection, and whether it is alive.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use redlock_core::{BackendError, Vote, redis::RedisBackend};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::connection::{ConnectionClient, Shareable};

/// A connection with its protocol on top.
///
/// It is given up when it is silent although answers are due. Not the age of one operation counts: a
/// server that is busy, or a client that has sent thousands of commands at once, answers late, and giving
/// such a connection up would make it later still. One task watches all operations of a connection.
pub(crate) struct Line<C> {
    pub(crate) backend: RedisBackend<ConnectionClient<C>>,
    /// Set when the connection has ended or is silent.
    closed: Arc<AtomicBool>,
    /// How many operations wait.
    waiting: AtomicUsize,
    /// Whether one was dropped that waited, and nothing was answered since.
    owed: AtomicBool,
    watched: AtomicBool,
    silent: Notify,
}

/// In how many steps silence is found. A client that was starved itself finds its timers due and the
/// answers unread; between the steps it reads them.
const STEPS: u32 = 4;

impl<C: Shareable> Line<C> {
    pub(crate) fn new(connection: C, key_prefix: &str, closed: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            backend: RedisBackend::new(ConnectionClient::new(connection)).key_prefix(key_prefix),
            closed,
            waiting: AtomicUsize::new(0),
            owed: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            silent: Notify::new(),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// The answer to what was sent on this line, or a timeout once the line has been silent for so long.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        silence: Duration,
        sent: impl Future<Output = Result<Vote, BackendError>>,
    ) -> Result<Vote, BackendError> {
        let waiting = Waiting::new(self);
        let mut silent = pin!(self.silent.notified());
        silent.as_mut().enable();
        self.watch(silence);
        tokio::select! {
            biased;
            answer = sent => {
                waiting.answered();
                answer
            }
            () = silent => Err(BackendError::timeout()),
        }
    }

    /// Sees to it that a task watches the line while answers are due.
    fn watch(self: &Arc<Self>, silence: Duration) {
        if self.watched.swap(true, SeqCst) {
            return;
        }
        let watch = Watch(Arc::clone(self));
        tokio::spawn(async move {
            let line = Arc::clone(&watch.0);
            let answers = || line.backend.client().answers();
            let (mut seen, mut steps) = (answers(), 0);
            while steps < STEPS {
                sleep(silence / STEPS).await;
                if line.is_idle() {
                    drop(watch);
                    // An operation that began meanwhile has counted on this task.
                    if !line.is_idle() {
                        line.watch(silence);
                    }
                    return;
                }
                steps = if answers() == seen { steps + 1 } else { 0 };
                seen = answers();
            }
            line.closed.store(true, SeqCst);
            line.silent.notify_waiters();
        });
    }

    fn is_idle(&self) -> bool {
        self.waiting.load(SeqCst) == 0 && !self.owed.load(SeqCst)
    }
}

/// However the watching task ends, also with its runtime, another one can be started.
struct Watch<C>(Arc<Line<C>>);

impl<C> Drop for Watch<C> {
    fn drop(&mut self) {
        self.0.watched.store(false, SeqCst);
    }
}

/// An operation that waits for its answer.
struct Waiting<'a, C>(&'a Line<C>);

impl<'a, C> Waiting<'a, C> {
    fn new(line: &'a Line<C>) -> Self {
        line.waiting.fetch_add(1, SeqCst);
        Self(line)
    }

    fn answered(self) {
        self.0.owed.store(false, SeqCst);
        self.0.waiting.fetch_sub(1, SeqCst);
        std::mem::forget(self);
    }
}

impl<C> Drop for Waiting<'_, C> {
    fn drop(&mut self) {
        self.0.owed.store(true, SeqCst);
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// The future's output, or a timeout; in steps, as above.
pub(crate) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    let mut future = pin!(future);
    for _ in 0..STEPS {
        if let Ok(output) = timeout(limit / STEPS, &mut future).await {
            return output;
        }
    }
    Err(BackendError::timeout())
}
