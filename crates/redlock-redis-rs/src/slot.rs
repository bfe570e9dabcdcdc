//! One connection that is dialled when it is needed and replaced when it is of no further use.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redlock_core::{BackendError, BackendErrorKind, redis::RedisBackend, retry::backoff};
use tokio::time::{Instant, timeout};

use crate::{
    connection::{ConnectionClient, Shareable},
    node::Source,
    retired::Backend,
};

/// The first and the longest pause between two dials of a node that is down.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Opens connections.
#[async_trait]
pub(crate) trait Dial: Send + Sync + 'static {
    type Connection: Shareable;

    /// Whether replies come in the order of the commands.
    const REPLIES_IN_ORDER: bool;

    /// Opens a connection that sets `closed` when it notices that it has ended.
    async fn dial(&self, closed: Arc<AtomicBool>) -> Result<Self::Connection, BackendError>;
}

pub(crate) struct Slot<D: Dial> {
    dial: D,
    /// Bounds a dial with everything that belongs to it.
    connect_timeout: Duration,
    key_prefix: String,
    state: Mutex<State<D::Connection>>,
}

struct State<C> {
    connection: Link<C>,
    /// How many dials in a row have failed.
    failures: usize,
}

enum Link<C> {
    None,
    Up(Arc<Connection<C>>),
    Dialling(Dialling<C>),
    Down { until: Instant, error: BackendError },
}

type Dialling<C> = Shared<BoxFuture<'static, Result<Arc<Connection<C>>, BackendError>>>;

pub(crate) struct Connection<C> {
    backend: Backend<C>,
    closed: Arc<AtomicBool>,
}

impl<D: Dial> Slot<D> {
    pub(crate) fn new(dial: D, connect_timeout: Duration, key_prefix: &str) -> Arc<Self> {
        Arc::new(Self {
            dial,
            connect_timeout,
            key_prefix: key_prefix.to_owned(),
            state: Mutex::new(State {
                connection: Link::None,
                failures: 0,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State<D::Connection>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, the dial under way, or the error while the node is down.
    fn look(self: &Arc<Self>) -> Result<Arc<Connection<D::Connection>>, Dialling<D::Connection>> {
        let mut state = self.state();
        match &state.connection {
            Link::Up(connection) if !connection.closed.load(Ordering::Acquire) => {
                return Ok(Arc::clone(connection));
            }
            Link::Dialling(dialling) => return Err(dialling.clone()),
            Link::Down { until, error } if Instant::now() < *until => {
                return Err(std::future::ready(Err(error.clone())).boxed().shared());
            }
            Link::None | Link::Up(_) | Link::Down { .. } => {}
        }
        let slot = Arc::clone(self);
        // A task of its own: it goes on when the operation that started it is dropped.
        let task = tokio::spawn(async move { slot.dial().await });
        let ended = |error| BackendError::new(BackendErrorKind::Unreachable, error);
        let dialling = async move { task.await.unwrap_or_else(|error| Err(ended(error))) };
        let dialling = dialling.boxed().shared();
        state.connection = Link::Dialling(dialling.clone());
        Err(dialling)
    }

    async fn dial(&self) -> Result<Arc<Connection<D::Connection>>, BackendError> {
        let closed = Arc::new(AtomicBool::new(false));
        let dialled = timeout(self.connect_timeout, self.dial.dial(Arc::clone(&closed))).await;
        let result = dialled.unwrap_or_else(|_| Err(BackendError::timeout()));
        let mut state = self.state();
        match result {
            Ok(connection) => {
                let client = ConnectionClient::new(connection);
                let backend = RedisBackend::new(client).key_prefix(&self.key_prefix);
                let backend = Arc::new(backend);
                let connection = Arc::new(Connection { backend, closed });
                state.connection = Link::Up(Arc::clone(&connection));
                state.failures = 0;
                Ok(connection)
            }
            Err(error) => {
                let pause = backoff(PAUSES.0, PAUSES.1)
                    .nth(state.failures)
                    .unwrap_or(PAUSES.1);
                state.failures = (state.failures + 1).min(64);
                state.connection = Link::Down {
                    until: Instant::now() + pause,
                    error: error.clone(),
                };
                Err(error)
            }
        }
    }
}

#[async_trait]
impl<D: Dial> Source for Arc<Slot<D>> {
    type Connection = D::Connection;
    type Lease = Arc<Connection<D::Connection>>;
    const REPLIES_IN_ORDER: bool = D::REPLIES_IN_ORDER;

    async fn lease(&self) -> Result<(Backend<D::Connection>, Self::Lease), BackendError> {
        let connection = match self.look() {
            Ok(connection) => connection,
            Err(dialling) => {
                let dialled = dialling.clone().await;
                // A dial that ended with its runtime has not said so.
                let mut state = self.state();
                match &state.connection {
                    Link::Dialling(ours) if ours.ptr_eq(&dialling) => {
                        state.connection = Link::None;
                    }
                    _ => {}
                }
                dialled?
            }
        };
        Ok((Arc::clone(&connection.backend), connection))
    }

    fn discard(&self, lease: Self::Lease) -> bool {
        let mut state = self.state();
        match &state.connection {
            Link::Up(connection) if Arc::ptr_eq(connection, &lease) => {
                drop(mem::replace(&mut state.connection, Link::None));
            }
            _ => {}
        }
        true
    }
}

impl<D: Dial> fmt::Debug for Slot<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state().connection {
            Link::None => "not connected",
            Link::Up(_) => "connected",
            Link::Dialling(_) => "connecting",
            Link::Down { .. } => "down",
        })
    }
}
