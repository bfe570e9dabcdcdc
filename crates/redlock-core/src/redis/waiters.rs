//! Who waits at a Redis server for a release, and how it is told.
//!
//! The server keeps a list for every resource that somebody waits for, beside its key. A release takes the first out
//! of it and publishes its ticket on the channel of its process. A waiter looks again when the lease ends that it has
//! seen, and from time to time, as messages can be lost. The first in line also does so when the server says that the
//! key has changed; that it is the first it learns by looking, or from who stands in line behind it or leaves it. Who
//! finds the key free passes the turn on, as a release does.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    BackendError, Place, Resources, Wake,
    clock::{Instant, after, sleep_until},
    retry::{backoff, jittered},
    wait::Awaited,
};

/// After what time a waiter looks again, a tenth more or less, so that not all look together.
const LOOK: Duration = Duration::from_millis(900);

/// By how much, at most, a waiter is late to see a lease end, so that not all are there at the same moment.
const SLACK: Duration = Duration::from_millis(3);

/// The first and the longest time for which those are left alone who may have changed a key because it is their turn.
const GRACE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// The connections of a driver to one server, over which its waiters stand in line.
#[async_trait]
pub trait Ear: Send + Sync + 'static {
    /// [`RedisBackend::stand_in_line`](super::RedisBackend::stand_in_line) on the present connection, which listens to
    /// the channel of the waiters: whatever is published there is given to [`Waiters::told`].
    async fn stand_in_line(
        &self,
        resources: &Resources,
        waiter: &str,
        place: Place,
    ) -> Result<Stand, BackendError>;

    /// [`RedisBackend::leave_line`](super::RedisBackend::leave_line), if there is a connection.
    async fn leave_line(&self, resources: &Resources, waiter: &str);
}

/// Whether one stands in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// There is nothing to wait for.
    No(Wake),
    /// For so long there is nothing to try.
    InLine {
        /// Very long if that is not known.
        left: Duration,
        /// Whether nobody is in front.
        first: bool,
    },
}

/// Those in this process who wait at one server.
pub struct Waiters {
    channel: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    awaited: Mutex<Awaited>,
    /// Whether there ever was anything in it.
    ever_awaited: AtomicBool,
}

struct Waiting {
    keys: Vec<String>,
    notices: mpsc::UnboundedSender<Notice>,
}

/// Why to look again.
enum Notice {
    Turn,
    Front,
    Changed,
    Interrupted,
}

impl Waiters {
    /// Nobody, who listens to a channel of its own.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            channel: format!("redlock:wake:{:016x}", rand::random::<u64>()),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            awaited: Mutex::default(),
            ever_awaited: AtomicBool::new(false),
        })
    }

    /// The channel on which they are told, `redlock:wake:…`.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// This was published on the channel: a ticket whose turn it is, or one that is the first in line now.
    pub fn told(&self, message: &[u8]) {
        let text = std::str::from_utf8(message).unwrap_or_default();
        let (ticket, notice) = match text.strip_suffix(" first") {
            Some(ticket) => (ticket, Notice::Front),
            None => (text, Notice::Turn),
        };
        let waiting = self.waiting();
        let waiting = ticket
            .parse()
            .ok()
            .and_then(|ticket: u64| waiting.get(&ticket));
        if let Some(waiting) = waiting {
            let _ = waiting.notices.send(notice);
        }
    }

    /// The server says that this key has changed (`invalidate`, of client tracking), or any, if it names none.
    pub fn changed(&self, key: Option<&[u8]>) {
        for waiting in self.waiting().values() {
            if key.is_none_or(|key| waiting.keys.iter().any(|ours| ours.as_bytes() == key)) {
                let _ = waiting.notices.send(Notice::Changed);
            }
        }
    }

    /// Messages may have been lost, for a connection has ended.
    pub fn interrupted(&self) {
        for waiting in self.waiting().values() {
            let _ = waiting.notices.send(Notice::Interrupted);
        }
    }

    /// A release of ours has given the turn to somebody.
    pub(super) fn note_awaited(&self, resources: &Resources) {
        self.ever_awaited.store(true, Ordering::Relaxed);
        self.awaited().note(resources, Instant::now());
    }

    /// See [`LockBackend::is_awaited`](crate::LockBackend::is_awaited).
    pub fn is_awaited(&self, resources: &Resources) -> bool {
        self.ever_awaited.load(Ordering::Relaxed)
            && self.awaited().contains(resources, Instant::now())
    }

    /// See [`LockBackend::wait`](crate::LockBackend::wait); the resources' keys are their names behind the prefix.
    ///
    /// # Errors
    ///
    /// Those of [`Ear::stand_in_line`].
    pub async fn wait(
        self: &Arc<Self>,
        ear: &Arc<dyn Ear>,
        key_prefix: &str,
        resources: &Resources,
        mut place: Place,
    ) -> Result<Wake, BackendError> {
        let keys = resources.iter().map(|name| format!("{key_prefix}{name}"));
        let mut line = InLine::new(self, Arc::clone(ear), resources, keys.collect());
        let mut grace = backoff(GRACE.0, GRACE.1);
        loop {
            let (left, first) = match line.stand(place).await? {
                Stand::InLine { left, first } => (left, first),
                Stand::No(wake) => {
                    line.done = true;
                    return Ok(wake);
                }
            };
            // One that was in front stays there, and to be last twice is to be where one is.
            place = Place::Last;
            let at_last = jittered(LOOK, LOOK / 10, rand::random());
            let late = SLACK.mul_f64(rand::random());
            let mut look = after(Instant::now(), at_last.min(left.saturating_add(late)));
            loop {
                let notice = tokio::select! {
                    biased;
                    notice = line.notices.recv() => notice,
                    () = sleep_until(look) => break,
                };
                match notice {
                    Some(Notice::Turn) => {
                        line.done = true;
                        return Ok(Wake::Turn);
                    }
                    Some(Notice::Front) if first => {}
                    Some(Notice::Changed) => {
                        let soon = grace.next().unwrap_or(GRACE.1);
                        look = look.min(after(
                            Instant::now(),
                            jittered(soon, soon / 2, rand::random()),
                        ));
                    }
                    Some(Notice::Front | Notice::Interrupted) | None => break,
                }
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters")
            .field("channel", &self.channel)
            .field("waiting", &self.waiting().len())
            .finish_non_exhaustive()
    }
}

/// One who stands in line, until it is dropped.
struct InLine {
    waiters: Arc<Waiters>,
    ear: Arc<dyn Ear>,
    resources: Resources,
    ticket: u64,
    name: String,
    notices: mpsc::UnboundedReceiver<Notice>,
    /// Whether the server may have it in a list.
    listed: bool,
    /// Whether it has what it waited for.
    done: bool,
}

impl InLine {
    fn new(
        waiters: &Arc<Waiters>,
        ear: Arc<dyn Ear>,
        resources: &Resources,
        keys: Vec<String>,
    ) -> Self {
        let ticket = waiters.next.fetch_add(1, Ordering::Relaxed);
        let (sender, notices) = mpsc::unbounded_channel();
        let waiting = Waiting {
            keys,
            notices: sender,
        };
        waiters.waiting().insert(ticket, waiting);
        Self {
            waiters: Arc::clone(waiters),
            ear,
            resources: resources.clone(),
            ticket,
            name: format!("{} {ticket}", waiters.channel),
            notices,
            listed: false,
            done: false,
        }
    }

    async fn stand(&mut self, place: Place) -> Result<Stand, BackendError> {
        let was_listed = std::mem::replace(&mut self.listed, true);
        let stood = self.ear.stand_in_line(&self.resources, &self.name, place);
        let stood = stood.await;
        if let Err(error) = &stood {
            self.listed = was_listed || error.may_have_happened();
        }
        stood
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.waiters.waiting().remove(&self.ticket);
        if self.listed
            && !self.done
            && let Ok(runtime) = Handle::try_current()
        {
            let (ear, resources, name) = (
                Arc::clone(&self.ear),
                self.resources.clone(),
                std::mem::take(&mut self.name),
            );
            runtime.spawn(async move { ear.leave_line(&resources, &name).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::BackendErrorKind;

    /// A server that says this to all, and counts how often it is asked and left.
    struct Says(Result<Stand, BackendError>, AtomicU64, AtomicU64);

    #[async_trait]
    impl Ear for Says {
        async fn stand_in_line(
            &self,
            _: &Resources,
            _: &str,
            _: Place,
        ) -> Result<Stand, BackendError> {
            match self.1.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(IN_LINE),
                _ => self.0.clone(),
            }
        }

        async fn leave_line(&self, _: &Resources, _: &str) {
            self.2.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Behind somebody who has it for an hour.
    const IN_LINE: Stand = Stand::InLine {
        left: Duration::from_secs(3600),
        first: false,
    };

    /// One that stands in line for `a`; how often it has asked at last.
    async fn asks(told: impl Fn(&Waiters)) -> (u64, Option<Wake>) {
        let (waiters, says) = (Waiters::new(), Says(Ok(IN_LINE), 0.into(), 0.into()));
        let says = Arc::new(says);
        let (ear, a) = (
            Arc::clone(&says) as Arc<dyn Ear>,
            Resources::new(["a"]).unwrap(),
        );
        let waits = waiters.wait(&ear, "", &a, Place::Last);
        let tells = async {
            tokio::task::yield_now().await;
            told(&waiters);
            std::future::pending::<()>().await;
        };
        let ends = async {
            tokio::select! {
                biased;
                wake = waits => wake.expect("it can"),
                () = tells => unreachable!("it goes on"),
            }
        };
        let wake = timeout(LOOK / 2, ends).await.ok();
        (says.1.load(Ordering::Relaxed), wake)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_be_the_first_asks_again_and_only_a_turn_ends_the_wait() {
        assert_eq!(asks(|_| {}).await, (1, None));
        assert_eq!(asks(|it| it.told(b"1 first")).await, (2, None));
        assert_eq!(asks(|it| it.told(b"1")).await, (1, Some(Wake::Turn)));
        for others in [&b"2"[..], b"2 first", b"1 last", b"first", b"", b"\xff"] {
            assert_eq!(asks(|it| it.told(others)).await, (1, None), "{others:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_key_is_a_reason_to_ask_and_one_of_another_is_none() {
        assert_eq!(asks(|it| it.changed(Some(b"a"))).await, (2, None));
        assert_eq!(asks(|it| it.changed(None)).await, (2, None));
        assert_eq!(asks(Waiters::interrupted).await, (2, None));
        assert_eq!(asks(|it| it.changed(Some(b"b"))).await, (1, None));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_stood_in_line_leaves_it_whatever_the_last_answer_was() {
        let unreachable = BackendError::new(BackendErrorKind::Unreachable, "refused");
        for error in [unreachable.clone().not_executed(), unreachable] {
            let (waiters, says) = (Waiters::new(), Says(Err(error), 0.into(), 0.into()));
            let says = Arc::new(says);
            let ear = Arc::clone(&says) as Arc<dyn Ear>;
            let a = Resources::new(["a"]).unwrap();
            let waited = waiters.wait(&ear, "", &a, Place::Last).await;
            assert!(waited.is_err());
            timeout(LOOK, async {
                while says.2.load(Ordering::Relaxed) == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await
            .expect("it leaves");
        }
    }
}
