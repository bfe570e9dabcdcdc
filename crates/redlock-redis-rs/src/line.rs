//! One connection, and whether it is alive.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use redlock_core::{
    BackendError, BackendErrorKind, Place, Probation, Resources,
    redis::{RedisBackend, RedisClient, Reply, Stand, Waiters},
};
use tokio::{
    sync::{Notify, OnceCell},
    time::{Instant, sleep, timeout},
};

use crate::{
    begun::{Answers, Begun},
    connection::{ConnectionClient, Shareable},
    follow::Witness,
    joined::Command,
    pipe::Pipe,
};

/// A connection with its protocol on top.
///
/// It is given up when it is silent although answers are due. Not the age of one operation counts: a
/// server that is busy, or a client that has sent thousands of commands at once, answers late, and giving
/// such a connection up would make it later still. One task watches all operations of a connection.
pub(crate) struct Line<C> {
    pub(crate) backend: RedisBackend<ConnectionClient<C>>,
    standing: Standing,
    /// How many operations wait.
    waiting: AtomicUsize,
    /// Whether one was dropped that waited, and nothing was answered since.
    owed: AtomicBool,
    opened: Instant,
    /// When the task that watches will have looked again, in milliseconds since the line was opened; zero
    /// without such a task.
    due: AtomicU64,
    silent: Notify,
    /// What the server tells us of.
    listens: OnceCell<Listens>,
}

/// What a server tells on a connection; what it does not permit is not asked again.
#[derive(Clone, Copy)]
enum Listens {
    Nothing,
    /// Whose turn it is.
    Turns,
    /// And what others do who publish nothing.
    Changes,
}

/// Whether what a connection says counts.
#[derive(Default)]
pub(crate) struct Standing {
    /// Set when the connection has ended or is silent.
    pub(crate) closed: Arc<AtomicBool>,
    /// Set when the server is no longer the one to ask.
    pub(crate) retired: Arc<AtomicBool>,
    /// Who has to confirm what the server grants.
    pub(crate) witness: Option<Arc<dyn Witness>>,
    /// Whether the server may have forgotten what it granted.
    pub(crate) probation: Option<Probation>,
    /// The connection again, where it can send without a future.
    pub(crate) pipe: Option<Pipe>,
    /// Who hears what the server publishes, if it can tell on this connection.
    pub(crate) waiters: Option<Arc<Waiters>>,
}

/// In how many steps silence is found. A client that was starved itself finds its timers due and the
/// answers unread; between the steps it reads them.
const STEPS: u32 = 4;

impl<C: Shareable> Line<C> {
    pub(crate) fn new(backend: RedisBackend<ConnectionClient<C>>, standing: Standing) -> Arc<Self> {
        Arc::new(Self {
            backend,
            standing,
            waiting: AtomicUsize::new(0),
            owed: AtomicBool::new(false),
            opened: Instant::now(),
            due: AtomicU64::new(0),
            silent: Notify::new(),
            listens: OnceCell::new(),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.standing.closed.load(SeqCst) || self.standing.retired.load(SeqCst)
    }

    /// The answer to what was sent on this line, or a timeout once the line has been silent for so long.
    pub(crate) async fn answer<T>(
        self: &Arc<Self>,
        silence: Duration,
        sent: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let waiting = Waiting::new(self);
        let mut silent = pin!(self.silent.notified());
        silent.as_mut().enable();
        self.watch(silence, Instant::now());
        tokio::select! {
            biased;
            answer = sent => {
                waiting.answered();
                answer
            }
            () = silent => Err(BackendError::timeout()),
        }
    }

    /// Sends the command of an operation that is answered `by` whoever knows the reply, which is a timeout once the
    /// line has been silent for so long. Nothing is sent where that cannot be done.
    pub(crate) fn send(
        self: &Arc<Self>,
        silence: Duration,
        command: Command,
        begun: Begun,
        by: impl FnOnce() -> Arc<dyn Answers>,
    ) {
        let Some(pipe) = &self.standing.pipe else {
            return;
        };
        let now = Instant::now();
        pipe.send(command, now, begun, by);
        // Behind it: a task that ends meanwhile tells only those that it finds.
        self.watch(silence, now);
    }

    /// What the answer says to a command that was [sent](Self::send).
    pub(crate) fn read(
        &self,
        answer: Option<Result<Reply, BackendError>>,
    ) -> Result<Reply, BackendError> {
        let Some(answer) = answer else {
            return Err(BackendError::timeout().not_executed());
        };
        if self.owed.load(SeqCst) {
            self.owed.store(false, SeqCst);
        }
        answer
    }

    pub(crate) const fn sends(&self) -> bool {
        self.standing.pipe.is_some()
    }

    /// Whether commands are joined that are sent now; alone, a release costs less by a command of its own.
    pub(crate) fn joins(&self) -> bool {
        self.standing.pipe.as_ref().is_some_and(Pipe::joins)
    }

    pub(crate) const fn is_on_probation(&self) -> bool {
        self.standing.probation.is_some()
    }

    /// Whether a vote counts, by which something was `taken` or not, without anything to be examined.
    pub(crate) fn counts(&self, taken: bool) -> bool {
        let trusted = self.standing.witness.is_none() && !self.is_on_probation();
        (trusted || !taken) && self.still_counts().is_ok()
    }

    /// Stands in line for these resources, where the server can tell on this connection whose turn it is.
    pub(crate) async fn stand_in_line(
        &self,
        resources: &Resources,
        waiter: &str,
        place: Place,
    ) -> Result<Stand, BackendError> {
        let unsupported =
            |cause| Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed());
        let Some(waiters) = &self.standing.waiters else {
            return unsupported("the server tells nothing on this connection, which takes RESP3");
        };
        let listens = self.listens.get_or_try_init(|| self.listen(waiters));
        let stand = || self.backend.stand_in_line(resources, waiter, place);
        match listens.await? {
            Listens::Nothing => return unsupported("the server does not permit to be listened to"),
            Listens::Turns => return stand().await,
            Listens::Changes => {}
        }
        if place == Place::Last {
            let stood = stand().await?;
            // If all were told of every change, all would come at once.
            if !matches!(stood, Stand::InLine { first: true, .. }) {
                return Ok(stood);
            }
        }
        // For the command that follows, which the connection sends next.
        let track = self.backend.client().command(&["CLIENT", "CACHING", "YES"]);
        let (_, stood) = tokio::join!(biased; track, stand());
        stood
    }

    async fn listen(&self, waiters: &Waiters) -> Result<Listens, BackendError> {
        let client = self.backend.client();
        let subscribe = ["SUBSCRIBE", waiters.channel()];
        match client.command(&subscribe).await {
            Err(error) if error.kind() == BackendErrorKind::Unsupported => {
                return Ok(Listens::Nothing);
            }
            subscribed => subscribed?,
        };
        // Not every server can, nor permits it.
        let track = ["CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP"];
        match client.command(&track).await {
            Err(error) if error.may_have_happened() => Err(error),
            Err(_) => Ok(Listens::Turns),
            Ok(_) => Ok(Listens::Changes),
        }
    }

    /// Whether a vote that was just granted counts.
    pub(crate) async fn confirm(&self) -> Result<(), BackendError> {
        if let Some(witness) = &self.standing.witness {
            let confirmed = witness.confirm().await;
            // It is the confirmation that was not executed.
            confirmed.map_err(BackendError::perhaps_executed)?;
        }
        self.still_counts()
    }

    /// Whether the server is still the one to ask, so that what it has just said counts.
    pub(crate) fn still_counts(&self) -> Result<(), BackendError> {
        if self.standing.retired.load(SeqCst) {
            let cause = "the server was replaced meanwhile";
            return Err(BackendError::new(BackendErrorKind::Unreachable, cause));
        }
        Ok(())
    }

    /// Fails if a grant of what was sent then does not count because the server may have forgotten others.
    pub(crate) fn past_probation(&self, fenced: bool, sent: Instant) -> Result<(), BackendError> {
        match &self.standing.probation {
            None => Ok(()),
            Some(probation) => probation.check(fenced, sent),
        }
    }

    /// Sees to it that a task watches the line while answers are due.
    fn watch(self: &Arc<Self>, silence: Duration, now: Instant) {
        let due = self.due.load(SeqCst);
        // One that is overdue is on a runtime that nobody drives.
        if due > self.in_millis(now) {
            return;
        }
        let next = self.in_millis(now + silence);
        if self.due.compare_exchange(due, next, SeqCst, SeqCst).is_ok() {
            let watch = Watch {
                line: Arc::clone(self),
                due: next,
                idle: false,
            };
            tokio::spawn(watch.run(silence));
        }
    }

    fn is_idle(&self) -> bool {
        !self.is_awaited() && !self.owed.load(SeqCst)
    }

    /// Whether anybody waits for an answer.
    fn is_awaited(&self) -> bool {
        let pipe = self.standing.pipe.as_ref();
        self.waiting.load(SeqCst) > 0 || pipe.is_some_and(|pipe| !pipe.is_idle())
    }

    /// Changes with every answer.
    fn answers(&self) -> u64 {
        let sent = self.standing.pipe.as_ref().map_or(0, Pipe::answers);
        self.backend.client().answers() + sent
    }

    /// Then, as [`due`](Self::due) counts; never zero.
    fn in_millis(&self, then: Instant) -> u64 {
        let millis = then.saturating_duration_since(self.opened).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX).max(1)
    }
}

/// The task that watches a line. However it ends, also with its runtime, another one can be started.
struct Watch<C> {
    line: Arc<Line<C>>,
    due: u64,
    /// Whether it ends because there is nothing to watch.
    idle: bool,
}

impl<C: Shareable> Watch<C> {
    async fn run(mut self, silence: Duration) {
        let line = Arc::clone(&self.line);
        let (mut seen, mut steps) = (line.answers(), 0);
        loop {
            sleep(silence / STEPS).await;
            if !self.go_on(silence) {
                return;
            }
            if line.is_idle() {
                self.idle = true;
                drop(self);
                // An operation that began meanwhile has counted on this task.
                if !line.is_idle() {
                    line.watch(silence, Instant::now());
                }
                return;
            }
            steps = if line.answers() == seen { steps + 1 } else { 0 };
            seen = line.answers();
            if steps < STEPS {
                continue;
            }
            // If only an operation that was dropped is due, its answer may have come unseen.
            if !line.is_awaited() && line.backend.client().is_alive(silence / 2).await {
                line.owed.store(false, SeqCst);
                steps = 0;
                continue;
            }
            line.standing.closed.store(true, SeqCst);
            return;
        }
    }

    /// Says that this task is alive; false if another one has taken its place.
    fn go_on(&mut self, silence: Duration) -> bool {
        let next = self.line.in_millis(Instant::now() + silence);
        let ours = self
            .line
            .due
            .compare_exchange(self.due, next, SeqCst, SeqCst)
            .is_ok();
        if ours {
            self.due = next;
        }
        ours
    }
}

impl<C> Drop for Watch<C> {
    fn drop(&mut self) {
        let ours = self.line.due.compare_exchange(self.due, 0, SeqCst, SeqCst);
        if ours.is_ok() && !self.idle {
            // The line is silent, or nobody watches it any more: whoever waits, waits in vain.
            self.line.silent.notify_waiters();
            if let Some(pipe) = &self.line.standing.pipe {
                pipe.give_up(&io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
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

#[cfg(test)]
pub(crate) mod tests {
    use redis::{Cmd, Pipeline, RedisFuture, Value, aio::ConnectionLike};
    use redlock_core::{LockBackend, LockValue, Resources, Vote};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        begun::tests::{Grants, begun},
        connection::Protocol,
        pipe::tests::piped,
    };

    const SILENCE: Duration = Duration::from_millis(200);
    const HOUR: Duration = Duration::from_secs(3600);

    /// A connection that answers after a time.
    #[derive(Clone)]
    pub(crate) struct Slow(pub(crate) Duration);

    impl ConnectionLike for Slow {
        fn req_packed_command<'a>(&'a mut self, _: &'a Cmd) -> RedisFuture<'a, Value> {
            Box::pin(async move {
                sleep(self.0).await;
                Ok(Value::Okay)
            })
        }

        fn req_packed_commands<'a>(
            &'a mut self,
            _: &'a Pipeline,
            _: usize,
            _: usize,
        ) -> RedisFuture<'a, Vec<Value>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn get_db(&self) -> i64 {
            0
        }
    }

    fn line(answers_after: Duration) -> Arc<Line<Slow>> {
        let backend = Protocol::default().over(Slow(answers_after));
        Line::new(backend, Standing::default())
    }

    async fn ask(line: &Arc<Line<Slow>>) -> Result<Vote, BackendError> {
        let resources = Resources::new(["a"]).expect("a name");
        let value = LockValue::random();
        let sent = line.backend.acquire(&resources, &value, HOUR);
        line.answer(SILENCE, sent).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_answers_is_kept_and_a_silent_one_is_given_up() {
        let slow = line(SILENCE / 2);
        for _ in 0..100 {
            assert_eq!(ask(&slow).await.expect("an answer"), Vote::Granted);
        }
        assert!(!slow.is_closed());
        let silent = line(HOUR);
        let start = Instant::now();
        assert!(ask(&silent).await.is_err());
        assert!(silent.is_closed());
        assert!(start.elapsed() <= SILENCE * 5 / 4, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_that_was_dropped_is_an_answer_due_but_no_proof_of_silence() {
        for (answers_after, closed) in [(SILENCE / 3, false), (HOUR, true)] {
            let line = line(answers_after);
            assert!(timeout(SILENCE / 8, ask(&line)).await.is_err());
            sleep(10 * SILENCE).await;
            assert_eq!(line.is_closed(), closed, "{answers_after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_operations_on_a_silent_line_none_waits_for_ever() {
        let line = line(HOUR);
        let asked: Vec<_> = (0..500)
            .map(|number| {
                let line = Arc::clone(&line);
                tokio::spawn(async move {
                    sleep(Duration::from_millis(number)).await;
                    ask(&line).await
                })
            })
            .collect();
        for answer in asked {
            let answer = timeout(10 * SILENCE, answer).await.expect("it is told");
            assert!(answer.expect("it does not panic").is_err());
        }
    }

    #[test]
    fn nobody_waits_in_vain_when_the_runtime_ends_or_stops_that_watched() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().expect("a runtime")
        };
        for ends in [true, false] {
            let (first, second) = (runtime(), runtime());
            let line = line(HOUR);
            first.block_on(async { drop(timeout(SILENCE / 10, ask(&line)).await) });
            let first = if ends { None } else { Some(first) };
            second.block_on(async {
                // An operation that begins before the first watcher is overdue is told by the next.
                for patience in [2, 100] {
                    drop(timeout(patience * SILENCE, ask(&line)).await);
                }
                assert!(line.is_closed(), "runtime ended: {ends}");
            });
            drop(first);
        }
    }

    /// Over a connection to a server that takes so long for each command.
    async fn steady(each: Duration) -> Arc<Line<Pipe>> {
        let (pipe, mut server) = piped().await;
        tokio::spawn(async move {
            let mut read = vec![0; 1 << 20];
            while let Ok(length @ 1..) = server.read(&mut read).await {
                for _ in read[..length].iter().filter(|byte| **byte == b'*') {
                    sleep(each).await;
                    server.write_all(b"+OK\r\n").await.expect("writable");
                }
            }
        });
        let standing = Standing {
            pipe: Some(pipe.clone()),
            ..Standing::default()
        };
        Line::new(Protocol::default().over(pipe), standing)
    }

    fn ping(
        line: &Arc<Line<Pipe>>,
        silence: Duration,
    ) -> impl Future<Output = Result<Vote, BackendError>> + use<> {
        let (reply, told) = redlock_core::Reply::new();
        let ping = Command::Other(redis::cmd("PING"));
        line.send(silence, ping, begun(reply).1, || Arc::new(Grants));
        told
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_answers_all_the_time_is_kept_however_many_commands_wait() {
        let line = steady(SILENCE / 50).await;
        let asked: Vec<_> = (0..500).map(|_| ping(&line, SILENCE)).collect();
        for told in asked {
            assert!(told.await.is_ok());
        }
        assert!(!line.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_while_the_watcher_ends_is_told_all_the_same() {
        let line = steady(HOUR).await;
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime");
            runtime.handle().clone()
        };
        let ended = std::thread::spawn(runtime)
            .join()
            .expect("one that has ended");
        let told = {
            let _entered = ended.enter();
            ping(&line, SILENCE)
        };
        let told = timeout(100 * SILENCE, told).await;
        assert!(told.expect("told").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_slower_than_it_is_asked_has_no_queue_without_end() {
        let line = steady(Duration::from_millis(10)).await;
        let mut longest = 0;
        for _ in 0..6_000 {
            // Silence is not the subject.
            let _ = timeout(Duration::from_millis(5), ping(&line, HOUR)).await;
            longest = longest.max(line.backend.client().connection().waiting());
        }
        // All that come in five seconds, and what is under way.
        assert!(longest < 1_100, "{longest}");
    }
}
