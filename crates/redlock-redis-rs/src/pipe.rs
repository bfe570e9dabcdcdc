//! Commands of many tasks over one connection, in their order, without a task or a future for each of them.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{FutureExt, future::BoxFuture};
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{sync::oneshot, task::unconstrained};

/// So many requests may be under way before further commands are joined into one: a few for the time that the
/// network takes, but the fewer they are, the less each command costs.
const UNDER_WAY: usize = 2;

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
    waiting: Requests,
    /// Whether somebody is about to send what waits.
    sending: bool,
}

/// Commands, and who is told the reply to each of them.
#[derive(Default)]
struct Requests {
    commands: Pipeline,
    done: Vec<Done>,
}

type Done = Box<dyn FnOnce(RedisResult<Value>) + Send>;

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

    /// Sends a command behind all others, and has its reply told wherever that comes in.
    pub(crate) fn send(
        &self,
        command: Cmd,
        done: impl FnOnce(RedisResult<Value>) + Send + 'static,
    ) {
        let done = Box::new(done);
        let mut state = self.0.state();
        state.waiting.commands.add_command(command);
        state.waiting.done.push(done);
        self.0.send_waiting(state);
    }

    /// Waits no longer for replies that are due: this error takes their place.
    pub(crate) fn give_up(&self, error: &RedisError) {
        let mut state = self.0.state();
        let under_way = mem::take(&mut state.under_way);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        let unanswered = under_way.iter().filter_map(|batch| batch.work().take());
        let unanswered = unanswered.flat_map(|work| work.done);
        for done in unanswered.chain(waiting.done) {
            done(Err(error.clone()));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits as one request, unless it has to wait longer or somebody else is at it: one at a time, so
    /// that it is written in its order.
    fn send_waiting<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) {
        while !state.sending && state.under_way.len() < UNDER_WAY && !state.waiting.done.is_empty()
        {
            let Requests { commands, done } = mem::take(&mut state.waiting);
            let answers = request(self.connection.clone(), commands);
            let batch = Arc::new(Batch {
                shared: Arc::clone(self),
                // Nobody else polls it before it is written.
                wakes: AtomicUsize::new(1),
                work: Mutex::new(Some(Work { answers, done })),
            });
            state.under_way.push(Arc::clone(&batch));
            state.sending = true;
            drop(state);
            let answers = batch.poll();
            self.state().sending = false;
            batch.go_on(answers);
            state = self.state();
        }
    }
}

fn request(mut connection: MultiplexedConnection, commands: Pipeline) -> Answers {
    let answers = async move {
        let count = commands.len();
        connection.send_packed_commands(&commands, 0, count).await
    };
    // The task that happens to be woken must not pay for it.
    unconstrained(answers).boxed()
}

type Answers = BoxFuture<'static, RedisResult<Vec<Value>>>;

/// A request under way: a future that goes on where it is woken, which is where the connection is read.
struct Batch {
    shared: Arc<Shared>,
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
        if self.wakes.fetch_add(1, AcqRel) == 0 {
            let answers = self.poll();
            self.go_on(answers);
        }
    }
}

impl Batch {
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

    /// After a poll: another one if it was woken meanwhile.
    fn go_on(self: &Arc<Self>, mut answers: Poll<RedisResult<Vec<Value>>>) {
        let mut seen = 1;
        loop {
            if let Poll::Ready(answers) = answers {
                return self.answered(answers);
            }
            match self.wakes.compare_exchange(seen, 0, AcqRel, Acquire) {
                Ok(_) => return,
                Err(woken) => seen = woken,
            }
            answers = self.poll();
        }
    }

    /// What has waited meanwhile is sent, and the replies are told.
    fn answered(self: &Arc<Self>, answers: RedisResult<Vec<Value>>) {
        let mut state = self.shared.state();
        state.under_way.retain(|batch| !Arc::ptr_eq(batch, self));
        self.shared.send_waiting(state);
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
                .for_each(|(done, answer)| done(Ok(answer))),
            Err(error) => done.into_iter().for_each(|done| done(Err(error.clone()))),
        }
    }
}

impl ConnectionLike for Pipe {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let (sender, receiver) = oneshot::channel();
        self.send(command.clone(), |answer| drop(sender.send(answer)));
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
mod tests {
    use std::{io, time::Duration};

    use redis::{AsyncConnectionConfig, RedisConnectionInfo};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    /// A pipe, and where the server is.
    async fn piped() -> (Pipe, DuplexStream) {
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
        pipe.send(redis::cmd("PING"), |answer| drop(sender.send(answer)));
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
        for answer in asked {
            assert!(answer.await.unwrap().unwrap_err().is_timeout());
        }
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
}
