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
const UNDER_WAY: usize = 4;

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
    waiting: Vec<Request>,
}

struct Request {
    command: Cmd,
    done: Done,
}

/// Told the reply.
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
        state.waiting.push(Request { command, done });
        if state.under_way.len() < UNDER_WAY {
            self.0.send_waiting(state);
        }
    }

    /// Waits no longer for replies that are due: this error takes their place.
    pub(crate) fn give_up(&self, error: &RedisError) {
        let mut state = self.0.state();
        let under_way = mem::take(&mut state.under_way);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        let unanswered = under_way.iter().filter_map(|batch| batch.work().take());
        let unanswered = unanswered.flat_map(|work| work.done);
        for done in unanswered.chain(waiting.into_iter().map(|request| request.done)) {
            done(Err(error.clone()));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends all that waits as one request.
    fn send_waiting(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let (commands, done) = mem::take(&mut state.waiting)
            .into_iter()
            .map(|request| (request.command, request.done))
            .unzip();
        let answer = request(self.connection.clone(), commands);
        let batch = Arc::new(Batch {
            shared: Arc::clone(self),
            // Ours until the state is unlocked.
            wakes: AtomicUsize::new(1),
            work: Mutex::new(Some(Work { answer, done })),
        });
        state.under_way.push(Arc::clone(&batch));
        // What is polled in this order is written in this order.
        let answer = batch.poll();
        drop(state);
        batch.go_on(answer);
    }
}

fn request(
    mut connection: MultiplexedConnection,
    mut commands: Vec<Cmd>,
) -> BoxFuture<'static, RedisResult<Answers>> {
    if commands.len() == 1 {
        let command = commands.remove(0);
        let answer = async move { connection.send_packed_command(&command).await };
        return unconstrained(answer.map(|answer| answer.map(Answers::One))).boxed();
    }
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    let answers = async move {
        let count = pipeline.len();
        let answers = connection.send_packed_commands(&pipeline, 0, count);
        answers.await.map(Answers::All)
    };
    unconstrained(answers).boxed()
}

enum Answers {
    One(Value),
    All(Vec<Value>),
}

/// A request under way: a future that goes on where it is woken, which is where the connection is read.
struct Batch {
    shared: Arc<Shared>,
    /// How often it was woken since it was last seen idle; the first one polls it, and again for the others.
    wakes: AtomicUsize,
    work: Mutex<Option<Work>>,
}

struct Work {
    answer: BoxFuture<'static, RedisResult<Answers>>,
    done: Vec<Done>,
}

impl Wake for Batch {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, AcqRel) == 0 {
            let answer = self.poll();
            self.go_on(answer);
        }
    }
}

impl Batch {
    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(self: &Arc<Self>) -> Poll<RedisResult<Answers>> {
        let waker = Waker::from(Arc::clone(self));
        match &mut *self.work() {
            Some(work) => work.answer.as_mut().poll(&mut Context::from_waker(&waker)),
            None => Poll::Pending,
        }
    }

    fn go_on(self: &Arc<Self>, mut answer: Poll<RedisResult<Answers>>) {
        let mut seen = 1;
        loop {
            if let Poll::Ready(answers) = answer {
                return self.answered(answers);
            }
            match self.wakes.compare_exchange(seen, 0, AcqRel, Acquire) {
                Ok(_) => return,
                Err(woken) => seen = woken,
            }
            answer = self.poll();
        }
    }

    /// What has waited meanwhile is sent, and the replies are told.
    fn answered(self: &Arc<Self>, answers: RedisResult<Answers>) {
        let mut state = self.shared.state();
        state.under_way.retain(|batch| !Arc::ptr_eq(batch, self));
        if !state.waiting.is_empty() {
            self.shared.send_waiting(state);
        } else {
            drop(state);
        }
        let Some(work) = self.work().take() else {
            return;
        };
        match answers {
            Ok(Answers::One(value)) => work
                .done
                .into_iter()
                .for_each(|done| done(Ok(value.clone()))),
            Ok(Answers::All(values)) if values.len() == work.done.len() => {
                for (done, value) in work.done.into_iter().zip(values) {
                    done(Ok(value));
                }
            }
            Ok(Answers::All(_)) => {
                let error = (ErrorKind::UnexpectedReturnType, "wrong number of replies");
                work.done
                    .into_iter()
                    .for_each(|done| done(Err(error.into())));
            }
            Err(error) => {
                work.done
                    .into_iter()
                    .for_each(|done| done(Err(error.clone())));
            }
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
