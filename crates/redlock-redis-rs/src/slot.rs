//! One connection that is dialled when it is needed and replaced when it is of no further use.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redlock_core::{
    BackendError, BackendErrorKind, Place, Resources,
    redis::{Ear, Stand},
    retry::backoff,
};
use tokio::time::Instant;

use crate::{
    connection::{Protocol, Shareable, condemns},
    line::{Line, Standing, within},
    node::Source,
};

/// The first and the longest pause between two dials of a node that is down.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Opens connections.
#[async_trait]
pub(crate) trait Dial: Send + Sync + 'static {
    type Connection: Shareable;

    async fn dial(&self) -> Result<Dialled<Self::Connection>, BackendError>;

    /// Whether a connection is of no further use after this error.
    fn condemns(&self, error: &BackendError) -> bool {
        condemns(error)
    }

    /// For how long the server before may still be counted elsewhere.
    fn lingering(&self) -> Duration {
        Duration::ZERO
    }
}

pub(crate) struct Dialled<C> {
    pub(crate) connection: C,
    pub(crate) standing: Standing,
}

impl<C> Dialled<C> {
    pub(crate) fn new(connection: C, closed: Arc<AtomicBool>) -> Self {
        Self {
            connection,
            standing: Standing {
                closed,
                ..Standing::default()
            },
        }
    }
}

pub(crate) struct Slot<D: Dial> {
    dial: D,
    /// Bounds a dial with everything that belongs to it.
    connect_timeout: Duration,
    protocol: Protocol,
    state: Mutex<State<D::Connection>>,
    /// How many dials and connections in a row were of no use.
    failures: AtomicUsize,
}

enum State<C> {
    None,
    Up(Arc<Line<C>>),
    Dialling {
        dialling: Dialling<C>,
        since: Instant,
    },
    Down {
        until: Instant,
        error: BackendError,
    },
}

type Dialling<C> = Shared<BoxFuture<'static, Result<Arc<Line<C>>, BackendError>>>;

enum Look<C> {
    Line(Arc<Line<C>>),
    Dialling(Dialling<C>),
}

impl<D: Dial> Slot<D> {
    pub(crate) fn new(dial: D, connect_timeout: Duration, protocol: Protocol) -> Arc<Self> {
        Arc::new(Self {
            dial,
            connect_timeout,
            protocol,
            state: Mutex::new(State::None),
            failures: AtomicUsize::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State<D::Connection>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, or the dial under way; an error while the node is down.
    fn look(self: &Arc<Self>) -> Result<Look<D::Connection>, BackendError> {
        let now = Instant::now();
        let mut state = self.state();
        match &*state {
            State::Up(line) if !line.is_closed() => return Ok(Look::Line(Arc::clone(line))),
            State::Up(_) if !self.may_dial_at_once() => {
                let cause = "the connection was lost, again";
                let error = BackendError::new(BackendErrorKind::Unreachable, cause);
                *state = self.down(error.clone());
                return Err(error);
            }
            // A dial that takes longer than it may is on a runtime that nobody drives.
            State::Dialling { dialling, since }
                if now - *since < self.connect_timeout.saturating_mul(2) =>
            {
                return Ok(Look::Dialling(dialling.clone()));
            }
            State::Down { until, error } if now < *until => return Err(error.clone()),
            _ => {}
        }
        let slot = Arc::clone(self);
        // A task of its own: it goes on when the operation that started it is dropped.
        let task = tokio::spawn(async move { slot.dial(now).await });
        let ended = |error| BackendError::new(BackendErrorKind::Unreachable, error);
        let dialling = async move { task.await.unwrap_or_else(|error| Err(ended(error))) };
        let dialling = dialling.boxed().shared();
        *state = State::Dialling {
            dialling: dialling.clone(),
            since: now,
        };
        Ok(Look::Dialling(dialling))
    }

    async fn dial(&self, since: Instant) -> Result<Arc<Line<D::Connection>>, BackendError> {
        let dialled = async {
            let Dialled {
                connection,
                mut standing,
            } = self.dial.dial().await?;
            let backend = self.protocol.over(connection);
            standing.probation = self
                .protocol
                .examine(&backend, self.dial.lingering())
                .await?;
            Ok(Line::new(backend, standing))
        };
        let result = within(self.connect_timeout, dialled).await;
        let next = match &result {
            Ok(line) => State::Up(Arc::clone(line)),
            Err(error) => self.down(error.clone()),
        };
        let mut state = self.state();
        if matches!(&*state, State::Dialling { since: ours, .. } if *ours == since) {
            *state = next;
        }
        result
    }

    /// Counts a connection that was lost. The first time it is dialled again at once.
    fn may_dial_at_once(&self) -> bool {
        let none = self.failures.load(Ordering::Relaxed) == 0;
        if none {
            self.failures.store(1, Ordering::Relaxed);
        }
        none
    }

    /// One failure more, and the pause that it deserves.
    fn down(&self, error: BackendError) -> State<D::Connection> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(64);
        let pause = backoff(PAUSES.0, PAUSES.1)
            .nth(failures)
            .unwrap_or(PAUSES.1);
        State::Down {
            until: Instant::now() + pause,
            error,
        }
    }

    /// Whether this dial has ended and counted as under way all the same.
    fn forget(&self, dialling: &Dialling<D::Connection>) -> bool {
        let mut state = self.state();
        let counted =
            matches!(&*state, State::Dialling { dialling: it, .. } if it.ptr_eq(dialling));
        if counted {
            *state = State::None;
        }
        counted
    }
}

#[async_trait]
impl<D: Dial> Source for Arc<Slot<D>> {
    type Connection = D::Connection;
    type Lease = Arc<Line<D::Connection>>;

    async fn lease(&self) -> Result<Self::Lease, BackendError> {
        let mut may_repeat = true;
        loop {
            let dialling = match self.look()? {
                Look::Line(line) => return Ok(line),
                Look::Dialling(dialling) => dialling,
            };
            let dialled = dialling.clone().await;
            // A dial that ended with its runtime has not said so; ours goes on.
            if !self.forget(&dialling) || !may_repeat {
                return dialled;
            }
            may_repeat = false;
        }
    }

    fn line_now(&self) -> Option<Arc<Line<D::Connection>>> {
        match &*self.state() {
            State::Up(line) if !line.is_closed() => Some(Arc::clone(line)),
            _ => None,
        }
    }

    fn line<'a>(&self, lease: &'a Self::Lease) -> &'a Arc<Line<D::Connection>> {
        lease
    }

    fn useful(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn discard(&self, lease: Self::Lease, error: &BackendError) {
        self.retire(&lease, error);
    }

    fn retire(&self, line: &Arc<Line<D::Connection>>, error: &BackendError) {
        let mut state = self.state();
        if matches!(&*state, State::Up(up) if Arc::ptr_eq(up, line)) {
            *state = if self.may_dial_at_once() {
                State::None
            } else {
                self.down(error.clone())
            };
            drop(state);
            // In the background, so that no operation has to wait for it.
            let _ = self.look();
        }
    }

    fn condemns(&self, error: &BackendError) -> bool {
        self.dial.condemns(error)
    }
}

/// What waits over a slot's connections.
pub(crate) struct Hearing<D: Dial> {
    pub(crate) slot: Arc<Slot<D>>,
    pub(crate) response_timeout: Duration,
}

#[async_trait]
impl<D: Dial> Ear for Hearing<D> {
    async fn stand_in_line(
        &self,
        resources: &Resources,
        waiter: &str,
        place: Place,
    ) -> Result<Stand, BackendError> {
        let line = self.slot.lease().await?;
        let stood = line.stand_in_line(resources, waiter, place);
        line.answer(self.response_timeout, stood).await
    }

    async fn leave_line(&self, resources: &Resources, waiter: &str) {
        if let Ok(line) = self.slot.lease().await {
            let left = line.backend.leave_line(resources, waiter);
            let _ = line.answer(self.response_timeout, left).await;
        }
    }
}

impl<D: Dial> fmt::Debug for Slot<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.state() {
            State::None => "not connected",
            State::Up(_) => "connected",
            State::Dialling { .. } => "connecting",
            State::Down { .. } => "down",
        })
    }
}
