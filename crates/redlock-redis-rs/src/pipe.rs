//! Commands of many tasks over one connection, without a task or a future for each of them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{FutureExt, future::BoxFuture};
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{unconstrained, yield_now},
    time::Instant,
};

use crate::{
    begun::{Answers, Begun},
    joined::{Command, Done, Joined, Request, joinable},
};

/// So many requests are sent at once. With so many under way a command waits for those of the other tasks that are
/// ready now: the fewer the requests are, the less each command costs.
const AT_ONCE: usize = 2;

/// How many requests are under way at most.
const UNDER_WAY: usize = 32;

/// How many commands are joined at most. Their replies come together, and until then the server seems silent.
const JOINED: usize = 32;
const YIELDS: usize = 4;

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
    /// Whether the last request had several commands.
    busy: bool,
    /// Who answers for what was begun, while anything is under way.
    by: Option<Arc<dyn Answers>>,
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
        state.has_to_wait() || !state.waiting.is_empty()
    }

    /// Whether no reply is due.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.0.state();
        state.under_way.is_empty() && state.waiting.is_empty()
    }

    /// Sends the command of an operation behind all others; whoever answers `by` what was begun is told the reply
    /// wherever that comes in.
    ///
    /// A release may get ahead of what is sent with it: what it does not find there has to be done by itself.
    pub(crate) fn send(
        &self,
        command: Command,
        now: Instant,
        begun: Begun,
        by: impl FnOnce() -> Arc<dyn Answers>,
    ) {
        let mut state = self.0.state();
        state.by.get_or_insert_with(by);
        self.push(state, command, now, Done::Begun(begun));
    }

    fn push(&self, mut state: MutexGuard<'_, State>, command: Command, now: Instant, done: Done) {
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
        let by = state.by.take();
        drop(state);
        for lane in under_way {
            lane.give_up().tell(Err(error.clone()));
        }
        let requests = waiting;
        Joined { requests, by }.forget();
    }
}

impl State {
    fn has_to_wait(&self) -> bool {
        self.under_way.len() >= AT_ONCE || self.busy && !self.under_way.is_empty()
    }

    /// Whether a request is under way on this lane, or was answered.
    fn has(&self, lane: &Arc<Lane>) -> bool {
        let mut lanes = self.under_way.iter().chain(&self.free);
        lanes.any(|it| Arc::ptr_eq(it, lane))
    }

    /// Nothing is under way on this lane any more. Who answered has to be dropped without the lock.
    fn free(&mut self, lane: &Arc<Lane>) -> Option<Arc<dyn Answers>> {
        let found = self.under_way.iter().position(|it| Arc::ptr_eq(it, lane));
        if let Some(found) = found {
            self.free.push(self.under_way.swap_remove(found));
        }
        self.idle()
    }

    /// Nobody is left to answer for, if nothing is under way.
    fn idle(&mut self) -> Option<Arc<dyn Answers>> {
        let is_idle = self.under_way.is_empty() && self.waiting.is_empty();
        self.by.take_if(|_| is_idle)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sends what waits, joined into requests, unless it has to wait longer or somebody else is at it: one at a
    /// time, so that it is written in its order.
    fn send_waiting<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>, now: Instant) {
        while !state.sending && !state.waiting.is_empty() {
            if state.has_to_wait() {
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
            let mut waiting = 0;
            for _ in 0..YIELDS {
                yield_now().await;
                let now = soon.waiting();
                if now >= JOINED || now <= waiting {
                    break;
                }
                waiting = now;
            }
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
        state.busy = count > 1;
        let lane = state.free.pop().unwrap_or_else(|| Lane::new(self));
        let mut joined = mem::take(&mut lane.work().joined);
        if count == state.waiting.len() {
            mem::swap(&mut joined.requests, &mut state.waiting);
        } else {
            joined.requests.extend(state.waiting.drain(..count));
        }
        joined.by.clone_from(&state.by);
        state.under_way.push(Arc::clone(&lane));
        // Before anybody else sends: it may only be in line for the connection, and must stay there.
        state.sending = true;
        drop(state);
        let answers = lane.begin(&self.connection, joined, now);
        let mut state = self.state();
        state.sending = false;
        if let Some(answers) = answers {
            // Before another one has the lane.
            let joined = lane.joined();
            let by = state.free(&lane);
            drop(state);
            drop(by);
            // Of nothing that was sent there is no answer.
            if !matches!(&answers, Ok(answers) if answers.is_empty()) {
                self.answers.fetch_add(1, Relaxed);
            }
            lane.tell(joined, answers);
            state = self.state();
        } else if !state.has(&lane) {
            // Given up before it was sent: nobody else has it.
            drop(state);
            let given_up = io::Error::from(io::ErrorKind::TimedOut);
            lane.give_up().tell(Err(given_up.into()));
            state = self.state();
        }
        state
    }
}

/// Sends what waits when it is dropped, which a task does that ends with its runtime, too.
struct Soon(Weak<Shared>);

impl Soon {
    fn waiting(&self) -> usize {
        self.0
            .upgrade()
            .map_or(0, |shared| shared.state().waiting.len())
    }
}

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
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for lane in state.under_way.drain(..).chain(state.free.drain(..)) {
            drop(lane.give_up());
        }
    }
}

/// One request after the other, each a future that goes on where it is woken, which is where the connection is read.
struct Lane {
    shared: Weak<Shared>,
    /// How often it was woken since it was last seen idle; the first one polls it, and again for the others.
    wakes: AtomicUsize,
    work: Mutex<Work>,
    exchange: Arc<Mutex<Exchange>>,
}

#[derive(Default)]
struct Work {
    /// Sends one request after the other, and never ends: what is sent is large, and would be moved each time.
    sending: Option<BoxFuture<'static, Infallible>>,
    /// Empty between two requests.
    joined: Joined,
}

/// What goes between a lane and its future.
#[derive(Default)]
enum Exchange {
    #[default]
    Nothing,
    Commands(Pipeline),
    /// The replies, and the commands again.
    Answers(RedisResult<Vec<Value>>, Pipeline),
}

impl Wake for Lane {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, AcqRel) > 0 {
            return;
        }
        let Some(answers) = self.go_on() else { return };
        let joined = self.joined();
        if let Some(shared) = self.shared.upgrade() {
            shared.answers.fetch_add(1, Relaxed);
            let mut state = shared.state();
            let by = state.free(&self);
            // First of all what has waited meanwhile.
            if !state.waiting.is_empty() && (!state.soon || state.under_way.is_empty()) {
                shared.send_waiting(state, Instant::now());
            } else {
                drop(state);
            }
            drop(by);
        }
        self.tell(joined, answers);
    }
}

impl Lane {
    fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::downgrade(shared),
            wakes: AtomicUsize::new(0),
            work: Mutex::default(),
            exchange: Arc::default(),
        })
    }

    /// Sends these as one request; the replies, if they are there at once.
    fn begin(
        self: &Arc<Self>,
        connection: &MultiplexedConnection,
        mut joined: Joined,
        now: Instant,
    ) -> Option<RedisResult<Vec<Value>>> {
        let mut commands = match self.take() {
            Exchange::Answers(_, commands) | Exchange::Commands(commands) => commands,
            Exchange::Nothing => Pipeline::new(),
        };
        commands.clear();
        joined.pack(&mut commands, now);
        let is_empty = commands.is_empty();
        *lock(&self.exchange) = Exchange::Commands(commands);
        // Nobody else polls it before it is written.
        self.wakes.store(1, Release);
        let mut work = self.work();
        work.joined = joined;
        if is_empty {
            return Some(Ok(Vec::new()));
        }
        work.sending.get_or_insert_with(|| {
            let sending = send_all(connection.clone(), Arc::clone(&self.exchange));
            // The task that happens to be woken must not pay for it.
            unconstrained(sending).boxed()
        });
        drop(work);
        self.go_on()
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.work)
    }

    fn take(&self) -> Exchange {
        mem::take(&mut *lock(&self.exchange))
    }

    /// Sends nothing any more; who waits for a reply that will not come.
    fn give_up(&self) -> Joined {
        let work = mem::take(&mut *self.work());
        let Work { sending, joined } = work;
        // Without the lock, as it may wake others.
        drop(sending);
        joined
    }

    /// Who is to be told; nobody, if that was given up.
    fn joined(&self) -> Joined {
        mem::take(&mut self.work().joined)
    }

    /// Tells them, and keeps the room that they took.
    fn tell(&self, mut joined: Joined, answers: RedisResult<Vec<Value>>) {
        joined.tell(answers);
        let before = &mut self.work().joined;
        if before.requests.capacity() == 0 {
            *before = joined;
        }
    }

    /// Pending for ever, if it was given up.
    fn poll(self: &Arc<Self>) -> Poll<RedisResult<Vec<Value>>> {
        let waker = Waker::from(Arc::clone(self));
        let work = &mut *self.work();
        let Some(sending) = &mut work.sending else {
            return Poll::Pending;
        };
        let Poll::Pending = sending.poll_unpin(&mut Context::from_waker(&waker));
        let mut exchange = lock(&self.exchange);
        match &mut *exchange {
            Exchange::Answers(answers, _) => Poll::Ready(mem::replace(answers, Ok(Vec::new()))),
            Exchange::Nothing | Exchange::Commands(_) => Poll::Pending,
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

async fn send_all(
    mut connection: MultiplexedConnection,
    exchange: Arc<Mutex<Exchange>>,
) -> Infallible {
    loop {
        let commands = poll_fn(|_| {
            let mut exchange = lock(&exchange);
            match mem::take(&mut *exchange) {
                Exchange::Commands(commands) => Poll::Ready(commands),
                other => {
                    *exchange = other;
                    Poll::Pending
                }
            }
        });
        let commands = commands.await;
        let count = commands.len();
        let answers = connection.send_packed_commands(&commands, 0, count).await;
        *lock(&exchange) = Exchange::Answers(answers, commands);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConnectionLike for Pipe {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let (sender, receiver) = oneshot::channel();
        let command = Command::Other(command.clone());
        self.push(
            self.0.state(),
            command,
            Instant::now(),
            Done::Awaited(sender),
        );
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
    use std::time::Duration;

    use redis::{AsyncConnectionConfig, RedisConnectionInfo};
    use redlock_core::{BackendError, redis::Reply};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;
    use crate::begun::{
        GoesOn,
        tests::{Grants, begun},
    };

    impl Pipe {
        /// How many commands wait to be sent.
        pub(crate) fn waiting(&self) -> usize {
            self.0.state().waiting.len()
        }
    }

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

    struct Panics;

    impl Answers for Panics {
        fn answer(
            &self,
            _: &mut Begun,
            _: Instant,
            _: Option<Result<Reply, BackendError>>,
        ) -> Option<GoesOn> {
            panic!("as the test wants it")
        }

        fn go_on(self: Arc<Self>, _: Begun, _: GoesOn) {}
    }

    fn ask(pipe: &Pipe) -> oneshot::Receiver<RedisResult<Value>> {
        let (sender, receiver) = oneshot::channel();
        let ping = Command::Other(redis::cmd("PING"));
        pipe.push(pipe.0.state(), ping, Instant::now(), Done::Awaited(sender));
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
    async fn of_what_is_given_up_each_knows_whether_it_was_sent() {
        let (pipe, _server) = piped().await;
        let asked: Vec<_> = (0..2_000)
            .map(|_| {
                let (reply, told) = redlock_core::Reply::new();
                let (release, begun) = begun(reply);
                let release = Command::Release(release);
                pipe.send(release, Instant::now(), begun, || Arc::new(Grants));
                told
            })
            .collect();
        while pipe.0.state().under_way.len() < UNDER_WAY {
            yield_now().await;
        }
        pipe.give_up(&io::Error::from(io::ErrorKind::TimedOut).into());
        let mut sent = 0;
        for told in asked {
            sent += usize::from(told.await.expect_err("given up").may_have_happened());
        }
        assert_eq!(sent, AT_ONCE + (UNDER_WAY - AT_ONCE) * JOINED);
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
        pipe.send(
            ping,
            Instant::now(),
            begun(redlock_core::Reply::new().0).1,
            || Arc::new(Panics),
        );
        let after: Vec<_> = (0..100).map(|_| ask(&pipe)).collect();
        tokio::spawn(number(server, 102));
        for answer in [before].into_iter().chain(after) {
            let answer = timeout(Duration::from_secs(20), answer).await;
            assert!(answer.unwrap().unwrap().is_ok());
        }
    }
}
