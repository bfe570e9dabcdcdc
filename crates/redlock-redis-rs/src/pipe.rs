//! Commands of many tasks over one connection, in their order, without a task or a future for each of them.

use std::{
    collections::VecDeque,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{sync::oneshot, task::unconstrained, time::Instant};

/// So many requests may be under way before further commands are joined into one: a few for the time that the
/// network takes, but the fewer they are, the less each command costs.
const UNDER_WAY: usize = 2;

/// How many commands are joined at most. Their replies come together, and until then the server seems silent.
const JOINED: usize = 32;

/// A command that has waited for so long is not sent any more: no vote is awaited longer, unless somebody sets it so.
const STALE: Duration = Duration::from_secs(5);

/// A connection to which everything is written in the order of [`send`](Self::send).
#[derive(Clone)]
pub(crate) struct Pipe(Arc<Shared>);

struct Shared {
    connection: MultiplexedConnection,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: Vec<Arc<Batch>>,
    waiting: VecDeque<Request>,
    /// Whether somebody is about to send what waits.
    sending: bool,
}

/// A command that waits to be sent.
struct Request {
    command: Cmd,
    done: Done,
    since: Instant,
}

/// Who is told the reply; `None` if the command was not sent and never will be.
enum Done {
    Told(Box<dyn FnOnce(Option<RedisResult<Value>>) + Send>),
    Awaited(oneshot::Sender<RedisResult<Value>>),
}

impl Done {
    fn tell(self, answer: Option<RedisResult<Value>>) {
        match self {
            // One who panics must not take the replies of the others along.
            Self::Told(done) => drop(catch_unwind(AssertUnwindSafe(|| done(answer)))),
            Self::Awaited(sender) => drop(answer.map(|answer| sender.send(answer))),
        }
    }
}

impl Request {
    fn is_stale(&self, now: Instant) -> bool {
        match &self.done {
            Done::Told(_) => now - self.since > STALE,
            Done::Awaited(sender) => sender.is_closed(),
        }
    }
}

impl Pipe {
    pub(crate) fn new(connection: MultiplexedConnection) -> Self {
        Self(Arc::new(Shared {
            connection,
            state: Mutex::default(),
        }))
    }

    pub(crate) fn connection(&self) -> &MultiplexedConnection {
        &self.0.connection
    }

    /// Sends a command behind all others, and has its reply told wherever that comes in; `None` if the command was
    /// not sent and never will be.
    pub(crate) fn send(
        &self,
        command: Cmd,
        done: impl FnOnce(Option<RedisResult<Value>>) + Send + 'static,
    ) {
        self.push(command, Done::Told(Box::new(done)));
    }

    fn push(&self, command: Cmd, done: Done) {
        let request = Request {
            command,
            done,
            since: Instant::now(),
        };
        let mut state = self.0.state();
        state.waiting.push_back(request);
        self.0.send_waiting(state);
    }

    /// Waits no longer for replies that are due: this error takes their place.
    pub(crate) fn give_up(&self, error: &RedisError) {
        let mut state = self.0.state();
        let under_way = mem::take(&mut state.under_way);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        let unanswered = under_way.iter().filter_map(|batch| batch.work().take());
        for done in unanswered.flat_map(|work| work.done) {
            done.tell(Some(Err(error.clone())));
        }
        for request in waiting {
            request.done.tell(None);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits, joined into requests, unless it has to wait longer or somebody else is at it: one at a
    /// time, so that it is written in its order.
    fn send_waiting<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) {
        while !state.sending && state.under_way.len() < UNDER_WAY && !state.waiting.is_empty() {
            let (now, count) = (Instant::now(), state.waiting.len().min(JOINED));
            let joined = state.waiting.drain(..count);
            let (forgotten, joined): (Vec<_>, Vec<_>) = joined.partition(|it| it.is_stale(now));
            let mut answered = None;
            if !joined.is_empty() {
                let batch = Batch::new(self, joined);
                state.under_way.push(Arc::clone(&batch));
                state.sending = true;
                drop(state);
                // Before anybody else sends: it may only be in line for the connection, and must stay there.
                let answers = batch.go_on();
                state = self.state();
                state.sending = false;
                if answers.is_some() {
                    state.under_way.retain(|it| !Arc::ptr_eq(it, &batch));
                }
                answered = answers.map(|answers| (batch, answers));
            }
            if answered.is_some() || !forgotten.is_empty() {
                drop(state);
                if let Some((batch, answers)) = answered {
                    batch.tell(answers);
                }
                forgotten.into_iter().for_each(|it| it.done.tell(None));
                state = self.state();
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A request under way holds the connection, and is held by what is to wake it.
        for batch in mem::take(&mut self.state().under_way) {
            batch.work().take();
        }
    }
}

type Answers = BoxFuture<'static, RedisResult<Vec<Value>>>;

/// A request under way: a future that goes on where it is woken, which is where the connection is read.
struct Batch {
    shared: Weak<Shared>,
    /// How often it was woken since it was last seen idle; the first one polls it, and again for the others.
    wakes: AtomicUsize,
    work: Mutex<Option<Work>>,
}

struct Work {
    answers: Answers,
    done: Vec<Done>,
}

impl Wake for Batch {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, AcqRel) > 0 {
            return;
        }
        let Some(answers) = self.go_on() else { return };
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.state();
            state.under_way.retain(|batch| !Arc::ptr_eq(batch, &self));
            // First of all what has waited meanwhile.
            shared.send_waiting(state);
        }
        self.tell(answers);
    }
}

impl Batch {
    /// These commands as one request; nobody else polls it before it is written.
    fn new(shared: &Arc<Shared>, joined: Vec<Request>) -> Arc<Self> {
        let mut commands = Pipeline::with_capacity(joined.len());
        let mut done = Vec::with_capacity(joined.len());
        for request in joined {
            commands.add_command(request.command);
            done.push(request.done);
        }
        let mut connection = shared.connection.clone();
        let answers = async move {
            let count = commands.len();
            connection.send_packed_commands(&commands, 0, count).await
        };
        // The task that happens to be woken must not pay for it.
        let answers = unconstrained(answers).boxed();
        Arc::new(Self {
            shared: Arc::downgrade(shared),
            wakes: AtomicUsize::new(1),
            work: Mutex::new(Some(Work { answers, done })),
        })
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(self: &Arc<Self>) -> Poll<RedisResult<Vec<Value>>> {
        let waker = Waker::from(Arc::clone(self));
        match &mut *self.work() {
            Some(work) => work.answers.as_mut().poll(&mut Context::from_waker(&waker)),
            None => Poll::Pending,
        }
    }

    /// Polls it, and again if it was woken meanwhile; the replies, once they are there.
    fn go_on(self: &Arc<Self>) -> Option<RedisResult<Vec<Value>>> {
        let mut seen = 1;
        loop {
            if let Poll::Ready(answers) = self.poll() {
                return Some(answers);
            }
            match self.wakes.compare_exchange(seen, 0, AcqRel, Acquire) {
                Ok(_) => return None,
                Err(woken) => seen = woken,
            }
        }
    }

    fn tell(&self, answers: RedisResult<Vec<Value>>) {
        let Some(Work { done, .. }) = self.work().take() else {
            return;
        };
        let answers = answers.and_then(|answers| {
            let whole = answers.len() == done.len();
            let error = (ErrorKind::UnexpectedReturnType, "wrong number of replies");
            whole.then_some(answers).ok_or_else(|| error.into())
        });
        match answers {
            Ok(answers) => done
                .into_iter()
                .zip(answers)
                .for_each(|(done, answer)| done.tell(Some(Ok(answer)))),
            Err(error) => done
                .into_iter()
                .for_each(|done| done.tell(Some(Err(error.clone())))),
        }
    }
}

impl ConnectionLike for Pipe {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let (sender, receiver) = oneshot::channel();
        self.push(command.clone(), Done::Awaited(sender));
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
        pipe.push(redis::cmd("PING"), Done::Awaited(sender));
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
        let asked: Vec<_> = (0..100).map(|_| ask(&pipe)).collect();
        tokio::task::yield_now().await;
        pipe.give_up(&io::Error::from(io::ErrorKind::TimedOut).into());
        let mut sent = 0;
        for answer in asked {
            // The others hear nothing, as nothing was sent.
            if let Ok(answer) = answer.await {
                assert!(answer.unwrap_err().is_timeout());
                sent += 1;
            }
        }
        assert_eq!(sent, UNDER_WAY);
        let later = ask(&pipe);
        // Of what waited nothing is sent any more.
        let server = tokio::spawn(number(server, UNDER_WAY + 1));
        let answer = timeout(Duration::from_secs(20), later).await;
        let last = i64::try_from(UNDER_WAY).unwrap();
        assert_eq!(answer.unwrap().unwrap().unwrap(), Value::Int(last));
        drop(server);
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
        pipe.send(redis::cmd("PING"), |_| panic!("as the test wants it"));
        let after: Vec<_> = (0..100).map(|_| ask(&pipe)).collect();
        tokio::spawn(number(server, 102));
        for answer in [before].into_iter().chain(after) {
            let answer = timeout(Duration::from_secs(20), answer).await;
            assert!(answer.unwrap().unwrap().is_ok());
        }
    }
}
