//! Commands of many tasks over one connection, without a task or a future for each of them.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::FutureExt;
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use redlock_core::{BackendError, redis::Reply};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{unconstrained, yield_now},
    time::Instant,
};
use tokio_util::sync::ReusableBoxFuture;

use crate::joined::{Command, Done, Joined, Request, Told, joinable};

/// So many requests are sent at once. With so many under way a command waits for those of the other tasks that are
/// ready now: the fewer the requests are, the less each command costs.
const AT_ONCE: usize = 2;

/// How many requests are under way at most.
const UNDER_WAY: usize = 32;

/// How many commands are joined at most. Their replies come together, and until then the server seems silent.
const JOINED: usize = 32;

/// A connection to which everything is written in the order in which it is sent, but for releases.
#[derive(Clone)]
pub(crate) struct Pipe(Arc<Shared>);

struct Shared {
    connection: MultiplexedConnection,
    state: Mutex<State>,
    /// How many requests have been answered.
    answers: AtomicU64,
}

#[derive(Default)]
struct State {
    under_way: Vec<Arc<Lane>>,
    /// Those on which a request was answered, for further ones.
    free: Vec<Arc<Lane>>,
    waiting: VecDeque<Request>,
    /// Whether somebody is about to send what waits.
    sending: bool,
    /// Whether a task is about to see to what waits.
    soon: bool,
}

impl Pipe {
    pub(crate) fn new(connection: MultiplexedConnection) -> Self {
        Self(Arc::new(Shared {
            connection,
            state: Mutex::default(),
            answers: AtomicU64::new(0),
        }))
    }

    pub(crate) fn connection(&self) -> &MultiplexedConnection {
        &self.0.connection
    }

    /// How many requests have been answered.
    pub(crate) fn answers(&self) -> u64 {
        self.0.answers.load(Relaxed)
    }

    /// Whether what is sent now waits, for others to be sent with it.
    pub(crate) fn joins(&self) -> bool {
        let state = self.0.state();
        state.under_way.len() >= AT_ONCE || !state.waiting.is_empty()
    }

    /// Whether no reply is due.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.0.state();
        state.under_way.is_empty() && state.waiting.is_empty()
    }

    /// Sends a command behind all others, and has its reply told wherever that comes in; `None` if the command was
    /// not sent and never will be.
    ///
    /// A release may get ahead of what is sent with it: what it does not find there has to be done by itself.
    pub(crate) fn send(
        &self,
        command: Command,
        now: Instant,
        done: impl FnOnce(Option<Result<Reply, BackendError>>) + Send + 'static,
    ) {
        self.push(command, now, Done::Told(Box::new(done)));
    }

    fn push(&self, command: Command, now: Instant, done: Done) {
        let mut state = self.0.state();
        state.waiting.push_back(Request {
            command,
            done,
            since: now,
        });
        self.0.send_waiting(state, now);
    }

    /// Waits no longer for replies that are due: this error takes their place.
    pub(crate) fn give_up(&self, error: &RedisError) {
        let mut state = self.0.state();
        let under_way = mem::take(&mut state.under_way);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        let unanswered = under_way.iter().filter_map(|lane| lane.work().take());
        for done in unanswered.flat_map(|work| work.told.done) {
            done.tell(Some(Err(error.clone())));
        }
        for request in waiting {
            request.done.tell(None);
        }
    }
}

impl State {
    /// Nothing is under way on this lane any more.
    fn free(&mut self, lane: &Arc<Lane>) {
        let found = self.under_way.iter().position(|it| Arc::ptr_eq(it, lane));
        if let Some(found) = found {
            self.free.push(self.under_way.swap_remove(found));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits, joined into requests, unless it has to wait longer or somebody else is at it: one at a
    /// time, so that it is written in its order.
    fn send_waiting<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, now: Instant) {
        while !state.sending && !state.waiting.is_empty() {
            if state.under_way.len() >= AT_ONCE {
                return self.send_soon(state);
            }
            state = self.send_next(state, now);
        }
    }

    /// Has what waits sent when all tasks have run that are ready now, unless a reply makes room before.
    fn send_soon(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.soon || state.under_way.len() >= UNDER_WAY {
            return;
        }
        // Outside of a runtime it waits for a reply.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        state.soon = true;
        // A runtime that has ended drops the task at once.
        drop(state);
        let soon = Soon(Arc::downgrade(self));
        runtime.spawn(async move {
            yield_now().await;
            drop(soon);
        });
    }

    /// Sends what waits as the next request.
    fn send_next<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        now: Instant,
    ) -> MutexGuard<'a, State> {
        let count = joinable(state.waiting.iter().take(JOINED));
        let Joined {
            commands,
            told,
            forgotten,
        } = Joined::new(state.waiting.drain(..count), now);
        let mut answered = None;
        if !told.done.is_empty() {
            let lane = state.free.pop().unwrap_or_else(|| Lane::new(self));
            state.under_way.push(Arc::clone(&lane));
            state.sending = true;
            drop(state);
            // Before anybody else sends: it may only be in line for the connection, and must stay there.
            let answers = lane.begin(&self.connection, commands, told);
            state = self.state();
            state.sending = false;
            answered = answers.map(|answers| {
                let told = lane.told();
                state.free(&lane);
                (told, answers)
            });
        }
        if answered.is_some() || !forgotten.is_empty() {
            drop(state);
            if let Some((told, answers)) = answered {
                self.answers.fetch_add(1, Relaxed);
                told.tell(answers);
            }
            forgotten.into_iter().for_each(|done| done.tell(None));
            state = self.state();
        }
        state
    }
}

/// Sends what waits when it is dropped, which a task does that ends with its runtime, too.
struct Soon(Weak<Shared>);

impl Drop for Soon {
    fn drop(&mut self) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let mut state = shared.state();
        state.soon = false;
        if !state.sending && !state.waiting.is_empty() {
            let now = Instant::now();
            let state = shared.send_next(state, now);
            shared.send_waiting(state, now);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A request under way holds the connection, and is held by what is to wake it.
        for lane in mem::take(&mut self.state().under_way) {
            lane.work().take();
        }
    }
}

/// One request after the other, each a future that goes on where it is woken, which is where the connection is read.
struct Lane {
    shared: Weak<Shared>,
    /// How often it was woken since it was last seen idle; the first one polls it, and again for the others.
    wakes: AtomicUsize,
    work: Mutex<Option<Work>>,
}

struct Work {
    answers: ReusableBoxFuture<'static, RedisResult<Vec<Value>>>,
    told: Told,
}

impl Wake for Lane {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, AcqRel) > 0 {
            return;
        }
        let Some(answers) = self.go_on() else { return };
        let told = self.told();
        if let Some(shared) = self.shared.upgrade() {
            shared.answers.fetch_add(1, Relaxed);
            let mut state = shared.state();
            state.free(&self);
            // First of all what has waited meanwhile.
            if !state.waiting.is_empty() {
                shared.send_waiting(state, Instant::now());
            }
        }
        told.tell(answers);
    }
}

impl Lane {
    fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::downgrade(shared),
            wakes: AtomicUsize::new(0),
            work: Mutex::new(None),
        })
    }

    /// Sends these commands as one request; the replies, if they are there at once.
    fn begin(
        self: &Arc<Self>,
        connection: &MultiplexedConnection,
        commands: Pipeline,
        told: Told,
    ) -> Option<RedisResult<Vec<Value>>> {
        let mut connection = connection.clone();
        let answers = async move {
            let count = commands.len();
            connection.send_packed_commands(&commands, 0, count).await
        };
        // The task that happens to be woken must not pay for it.
        let answers = unconstrained(answers);
        // Nobody else polls it before it is written.
        self.wakes.store(1, Release);
        match &mut *self.work() {
            Some(work) => {
                work.answers.set(answers);
                work.told = told;
            }
            none => {
                let answers = ReusableBoxFuture::new(answers);
                *none = Some(Work { answers, told });
            }
        }
        self.go_on()
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is to be told; nobody, if that was given up.
    fn told(&self) -> Told {
        let mut work = self.work();
        work.as_mut()
            .map_or_else(Told::default, |work| mem::take(&mut work.told))
    }

    fn poll(self: &Arc<Self>) -> Poll<RedisResult<Vec<Value>>> {
        let waker = Waker::from(Arc::clone(self));
        match &mut *self.work() {
            Some(work) => work.answers.poll(&mut Context::from_waker(&waker)),
            None => Poll::Pending,
        }
    }

    /// Polls it, and again if it was woken meanwhile; the replies, once they are there.
    fn go_on(self: &Arc<Self>) -> Option<RedisResult<Vec<Value>>> {
        let mut seen = 1;
        loop {
            if let Poll::Ready(answers) = self.poll() {
                // It counts as woken until there is a further one, so that nobody polls it.
                return Some(answers);
            }
            match self.wakes.compare_exchange(seen, 0, AcqRel, Acquire) {
                Ok(_) => return None,
                Err(woken) => seen = woken,
            }
        }
    }
}

impl ConnectionLike for Pipe {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let (sender, receiver) = oneshot::channel();
        let command = Command::Other(command.clone());
        self.push(command, Instant::now(), Done::Awaited(sender));
        let lost = |_| Err((ErrorKind::Io, "the connection has ended").into());
        receiver
            .map(move |answer| answer.unwrap_or_else(lost))
            .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let mut connection = self.0.connection.clone();
            connection
                .send_packed_commands(pipeline, offset, count)
                .await
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        self.0.connection.get_db()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{io, time::Duration};

    use redis::{AsyncConnectionConfig, RedisConnectionInfo};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    /// A pipe, and where the server is.
    pub(crate) async fn piped() -> (Pipe, DuplexStream) {
        let (client, server) = duplex(1 << 20);
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connected = MultiplexedConnection::new_with_config(&info, client, config).await;
        let (connection, driver) = connected.expect("nothing is said at first");
        tokio::spawn(driver);
        (Pipe::new(connection), server)
    }

    /// Numbers the commands in the order in which they arrive.
    async fn number(mut server: DuplexStream, until: usize) -> DuplexStream {
        let (mut arrived, mut read) = (0, vec![0; 1 << 16]);
        while arrived < until {
            let length = server.read(&mut read).await.expect("readable");
            let commands = read[..length].iter().filter(|byte| **byte == b'*');
            for _ in commands {
                let reply = format!(":{arrived}\r\n");
                server.write_all(reply.as_bytes()).await.expect("writable");
                arrived += 1;
            }
        }
        server
    }

    fn ask(pipe: &Pipe) -> oneshot::Receiver<RedisResult<Value>> {
        let (sender, receiver) = oneshot::channel();
        let ping = Command::Other(redis::cmd("PING"));
        pipe.push(ping, Instant::now(), Done::Awaited(sender));
        receiver
    }

    #[tokio::test]
    async fn commands_are_written_in_their_order_and_each_gets_its_own_reply() {
        let (pipe, server) = piped().await;
        let asked: Vec<_> = (0..1_000).map(|_| ask(&pipe)).collect();
        tokio::spawn(number(server, 1_000));
        for (number, answer) in (0..).zip(asked) {
            let answer = timeout(Duration::from_secs(20), answer).await;
            assert_eq!(answer.unwrap().unwrap().unwrap(), Value::Int(number));
        }
        assert!(pipe.0.state().under_way.is_empty());
    }

    #[tokio::test]
    async fn all_are_told_when_the_connection_ends() {
        let (pipe, server) = piped().await;
        let asked: Vec<_> = (0..100).map(|_| ask(&pipe)).collect();
        drop(server);
        for answer in asked.into_iter().chain([ask(&pipe)]) {
            let answer = timeout(Duration::from_secs(20), answer).await;
            assert!(answer.unwrap().unwrap().is_err());
        }
    }

    #[tokio::test]
    async fn what_was_given_up_is_told_so_and_no_later_reply_is_taken_for_another() {
        let (pipe, server) = piped().await;
        let asked: Vec<_> = (0..2_000).map(|_| ask(&pipe)).collect();
        while pipe.0.state().under_way.len() < UNDER_WAY {
            yield_now().await;
        }
        // Until they are written.
        yield_now().await;
        pipe.give_up(&io::Error::from(io::ErrorKind::TimedOut).into());
        let mut sent = 0;
        for answer in asked {
            // The others hear nothing, as nothing was sent.
            if let Ok(answer) = answer.await {
                assert!(answer.unwrap_err().is_timeout());
                sent += 1;
            }
        }
        assert_eq!(sent, AT_ONCE + (UNDER_WAY - AT_ONCE) * JOINED);
        let later = ask(&pipe);
        // Of what waited nothing is sent any more.
        let server = tokio::spawn(number(server, sent + 1));
        let answer = timeout(Duration::from_secs(20), later).await;
        let last = i64::try_from(sent).unwrap();
        assert_eq!(answer.unwrap().unwrap().unwrap(), Value::Int(last));
        drop(server);
    }

    #[tokio::test]
    async fn with_several_requests_under_way_the_next_one_takes_all_that_is_ready() {
        let (pipe, mut server) = piped().await;
        let asked: Vec<_> = (0..AT_ONCE + JOINED).map(|_| ask(&pipe)).collect();
        assert_eq!(pipe.0.state().under_way.len(), AT_ONCE);
        // Though none is answered.
        while pipe.0.state().under_way.len() == AT_ONCE {
            yield_now().await;
        }
        assert_eq!(pipe.0.state().under_way.len(), AT_ONCE + 1);
        assert!(pipe.0.state().waiting.is_empty());
        let mut read = vec![0; 1 << 16];
        assert!(server.read(&mut read).await.expect("readable") > 0);
        drop(asked);
    }

    #[test]
    fn nobody_waits_in_vain_when_the_runtime_ends_that_reads() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().expect("a runtime")
        };
        let (first, second) = (runtime(), runtime());
        let (pipe, _server) = first.block_on(piped());
        let asked: Vec<_> = (0..100).map(|_| ask(&pipe)).collect();
        drop(first);
        for answer in asked.into_iter().chain([ask(&pipe)]) {
            let answer = second.block_on(async { timeout(Duration::from_secs(20), answer).await });
            assert!(answer.unwrap().unwrap().is_err());
        }
    }

    #[tokio::test]
    async fn a_pipe_that_is_dropped_closes_its_connection_though_a_reply_is_due() {
        let (mut pipe, mut server) = piped().await;
        let ping = redis::cmd("PING");
        let asked = pipe.req_packed_command(&ping);
        assert!(timeout(Duration::from_millis(100), asked).await.is_err());
        drop(pipe);
        let closed = timeout(Duration::from_secs(20), async {
            let mut read = vec![0; 1 << 16];
            while server.read(&mut read).await.expect("readable") > 0 {}
        });
        assert!(closed.await.is_ok(), "it is kept for ever");
    }

    #[tokio::test]
    async fn who_panics_when_told_takes_no_other_reply_along() {
        let (pipe, server) = piped().await;
        let before = ask(&pipe);
        let ping = Command::Other(redis::cmd("PING"));
        pipe.send(ping, Instant::now(), |_| panic!("as the test wants it"));
        let after: Vec<_> = (0..100).map(|_| ask(&pipe)).collect();
        tokio::spawn(number(server, 102));
        for answer in [before].into_iter().chain(after) {
            let answer = timeout(Duration::from_secs(20), answer).await;
            assert!(answer.unwrap().unwrap().is_ok());
        }
    }
}
