//! The client behind a node, which is connected when it is needed.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::ClientLike,
    types::ConnectHandle,
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redlock_core::{BackendError, BackendErrorKind, Probation, retry::backoff};
use tokio::{
    sync::OnceCell,
    task::AbortHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

/// The first and the longest pause after a connection that was of no use.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// For how much longer than it may last a dial is waited for.
const SLACK: Duration = Duration::from_millis(100);

/// fred's own reconnecting is not used: it waits before its first attempt, takes commands meanwhile as if
/// it were connected, and goes on when nobody needs it.
pub(crate) struct Link {
    /// What each connection is made from.
    template: Client,
    connect_timeout: Duration,
    state: Mutex<State>,
    /// How many dials there have been since the last useful answer.
    dials: AtomicUsize,
}

enum State {
    None,
    Dialling {
        dial: Dial,
        task: AbortHandle,
        overdue: Instant,
    },
    Up {
        connected: Connected,
        /// When it may be replaced, if it is of no use.
        until: Instant,
    },
    Down {
        error: BackendError,
        until: Instant,
    },
}

type Dial = Shared<BoxFuture<'static, Result<Up, BackendError>>>;

/// A client that is connected.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) client: Client,
    /// Whether its server may have forgotten what it granted, once that is known.
    pub(crate) probation: Arc<OnceCell<Probation>>,
    /// Whether its server publishes to us.
    pub(crate) listens: Arc<OnceCell<()>>,
}

/// A client with the task that serves it, which would outlive it.
struct Connected {
    up: Up,
    task: ConnectHandle,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Look {
    Up(Up),
    Dialling(Dial, Instant),
}

impl Link {
    pub(crate) fn new(template: Client, connect_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            template,
            connect_timeout,
            state: Mutex::new(State::None),
            dials: AtomicUsize::new(0),
        })
    }

    /// A client that is connected. Nothing has been sent when it fails.
    pub(crate) async fn client(self: &Arc<Self>) -> Result<Up, BackendError> {
        loop {
            match self.look()? {
                Look::Up(up) => return Ok(up),
                Look::Dialling(dial, overdue) => {
                    // On a runtime that nobody drives, a dial never ends.
                    if let Ok(dialled) = timeout_at(overdue, dial).await {
                        return dialled;
                    }
                }
            }
        }
    }

    /// Replaces this client, unless it has been already.
    pub(crate) fn replace(&self, client: &Client) {
        let mut state = self.state();
        if let State::Up { connected, until } = &*state
            && connected.up.client.id() == client.id()
        {
            *state = given_up(*until);
        }
    }

    /// The connection has given a useful answer.
    pub(crate) fn useful(&self) {
        if self.dials.load(SeqCst) > 0 {
            self.dials.store(0, SeqCst);
        }
    }

    fn look(self: &Arc<Self>) -> Result<Look, BackendError> {
        let now = Instant::now();
        let mut state = self.state();
        if let State::Up { connected, until } = &*state
            && connected.task.is_finished()
        {
            *state = given_up(*until);
        }
        match &*state {
            State::Up { connected, .. } => return Ok(Look::Up(connected.up.clone())),
            // A dial that ended and is still here ended with its runtime.
            State::Dialling {
                dial,
                task,
                overdue,
            } if now < *overdue && !task.is_finished() => {
                return Ok(Look::Dialling(dial.clone(), *overdue));
            }
            State::Down { error, until } if now < *until && self.dials.load(SeqCst) > 0 => {
                return Err(error.clone());
            }
            _ => {}
        }
        let link = Arc::clone(self);
        let overdue = now + self.connect_timeout + SLACK;
        // A task of its own: it goes on when the operation that started it is dropped.
        let task = tokio::spawn(async move { link.dial(overdue).await });
        let abort = task.abort_handle();
        let dial = task.map(|ended| ended.unwrap_or_else(|error| Err(refused(error.into()))));
        let dial = dial.boxed().shared();
        *state = State::Dialling {
            dial: dial.clone(),
            task: abort,
            overdue,
        };
        Ok(Look::Dialling(dial, overdue))
    }

    async fn dial(&self, overdue: Instant) -> Result<Up, BackendError> {
        let connected = self.connect().await;
        let mut state = self.state();
        if !matches!(&*state, State::Dialling { overdue: ours, .. } if *ours == overdue) {
            // Another dial has taken its place.
            return Err(BackendError::timeout());
        }
        let useless = self.dials.fetch_add(1, SeqCst).min(64);
        let mut pauses = backoff(PAUSES.0, PAUSES.1);
        match connected {
            Ok(connected) => {
                let up = connected.up.clone();
                // The first time it is dialled again at once.
                let pause = useless.checked_sub(1).and_then(|n| pauses.nth(n));
                let until = Instant::now() + pause.unwrap_or_default();
                *state = State::Up { connected, until };
                Ok(up)
            }
            Err(error) => {
                let until = Instant::now() + pauses.nth(useless).unwrap_or(PAUSES.1);
                *state = State::Down {
                    error: error.clone(),
                    until,
                };
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Connected, BackendError> {
        let client = self.template.clone_new();
        let task = client.connect();
        let up = Up {
            client: client.clone(),
            probation: Arc::default(),
            listens: Arc::default(),
        };
        let mut connected = Connected { up, task };
        let connecting = async {
            // What it waits for may have happened just before it began to wait.
            while !client.is_connected() {
                let _ = timeout(Duration::from_millis(20), client.wait_for_connect()).await;
            }
        };
        tokio::select! {
            () = connecting => Ok(connected),
            ended = &mut connected.task => {
                let ended = ended.unwrap_or_else(|ended| Err(ended.into()));
                Err(refused(ended.err().unwrap_or_else(Error::new_canceled)))
            }
            () = sleep(self.connect_timeout) => Err(BackendError::timeout()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn given_up(until: Instant) -> State {
    let cause = "the connection has ended, and the last ones were of no use";
    State::Down {
        error: BackendError::new(BackendErrorKind::Unreachable, cause),
        until,
    }
}

fn refused(error: Error) -> BackendError {
    let kind = match error.kind() {
        ErrorKind::Auth | ErrorKind::Config => BackendErrorKind::Server,
        ErrorKind::Timeout => BackendErrorKind::Timeout,
        _ => BackendErrorKind::Unreachable,
    };
    BackendError::new(kind, error)
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.state() {
            State::Up { connected, .. } if !connected.task.is_finished() => "connected",
            State::Dialling { .. } => "connecting",
            _ => "not connected",
        })
    }
}
