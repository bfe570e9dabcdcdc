//! What operators and programs can see.
//!
//! Everything is said three ways: as a `tracing` event or span, as an [`Event`] of
//! [`Redlock::events`](crate::Redlock::events), and, with the feature `metrics`, through the `metrics`
//! facade. None of them contains a lock value or a credential.
//!
//! # Spans and events of `tracing`
//!
//! | span, at `DEBUG` | fields |
//! |---|---|
//! | `acquire` | `resources` |
//! | `attempt`, in `acquire` | `number` |
//! | `extend` | `resources` |
//! | `release` | `resources` |
//!
//! | event | level | fields |
//! |---|---|---|
//! | `vote` | `TRACE` | `node`, `operation`, `outcome`, `took` |
//! | `node error` | `DEBUG` | `node`, `operation`, `error`, `took` |
//! | `acquired` | `DEBUG` | `resources`, `attempts`, `waited`, `validity` |
//! | `not acquired` | `DEBUG` | `resources`, `attempts`, `waited`, `error` |
//! | `renewed` | `DEBUG` | `resources`, `validity` |
//! | `renewal failed` | `INFO` | `resources`, `validity`, `error` |
//! | `healed` | `INFO` | `resources`, `node` |
//! | `released` | `DEBUG` | `resources`, `held`, `validity`, `confirmed` |
//! | `lost` | `WARN` | `resources`, `held` |
//!
//! The target of all is `redlock`.
//!
//! # Metrics
//!
//! Times are in seconds.
//!
//! | name | kind | labels | counts |
//! |---|---|---|---|
//! | `redlock_acquisitions_total` | counter | `outcome`: `acquired`, `locked`, `no_quorum`, `late` | calls that acquire, by how they ended |
//! | `redlock_wait_seconds` | histogram | `outcome` | from such a call to its end |
//! | `redlock_hold_seconds` | histogram | | from a lock's grant to its release or loss |
//! | `redlock_release_validity_seconds` | histogram | | what was left of the validity at release |
//! | `redlock_renewals_total` | counter | `outcome`: `renewed`, `failed` | extensions |
//! | `redlock_lost_total` | counter | | locks lost while somebody relied on them |
//! | `redlock_healed_total` | counter | `node` | keys set again on nodes that had lost them |
//! | `redlock_kept_locks` | gauge | | locks kept alive now |
//! | `redlock_node_seconds` | histogram | `node`, `operation`: `acquire`, `extend`, `release` | a node's answers, late ones too |
//! | `redlock_node_errors_total` | counter | `node`, `operation`, `kind`: `timeout`, `unreachable`, `server`, `unsupported` | votes without an answer |

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use crate::{
    BackendError, BackendErrorKind, Error, Redlock, Resources, Vote, redlock::Shared,
    round::Operation,
};

/// How many events a slow listener may lag behind before it misses some.
const BUFFER: usize = 1024;

/// Something that happened to a lock or a node; see [`Redlock::events`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A lock was acquired.
    Acquired {
        /// What is locked.
        resources: Resources,
        /// How many attempts it took.
        attempts: u32,
        /// How long the call took.
        waited: Duration,
        /// How long the lock may be relied on.
        validity: Duration,
    },
    /// A call gave up acquiring a lock.
    NotAcquired {
        /// What was to be locked.
        resources: Resources,
        /// How many attempts were made.
        attempts: u32,
        /// How long the call took.
        waited: Duration,
        /// Why the last attempt failed.
        error: Error,
    },
    /// A lock was extended.
    Renewed {
        /// What is locked.
        resources: Resources,
        /// How long the lock may be relied on now.
        validity: Duration,
    },
    /// An extension failed; the lock is still valid.
    RenewalFailed {
        /// What is locked.
        resources: Resources,
        /// How long the lock may still be relied on.
        validity: Duration,
        /// Why it failed.
        error: Error,
    },
    /// A node that had lost the lock's keys, or never had them, has them again.
    Healed {
        /// What is locked.
        resources: Resources,
        /// The node's name.
        node: Arc<str>,
    },
    /// A lock was given back.
    Released {
        /// What was locked.
        resources: Resources,
        /// For how long it was held.
        held: Duration,
        /// What was left of its validity.
        validity: Duration,
        /// Whether a quorum confirmed it; not when the lock was dropped.
        confirmed: bool,
    },
    /// A lock was lost: it expired, or the nodes said that it was taken.
    Lost {
        /// What was locked.
        resources: Resources,
        /// For how long it was held.
        held: Duration,
    },
    /// A node gave no usable answer, or none in time.
    NodeError {
        /// The node's name.
        node: Arc<str>,
        /// `acquire`, `extend` or `release`.
        operation: &'static str,
        /// What went wrong.
        error: BackendError,
        /// How long it took.
        took: Duration,
    },
    /// This listener was too slow and has missed so many events.
    Missed(u64),
}

/// The listeners, if there ever were any.
pub(crate) type Listeners = std::sync::OnceLock<broadcast::Sender<Event>>;

impl Redlock {
    /// What happens from now on to the locks and the nodes of this `Redlock` and its clones.
    ///
    /// Events are not kept for listeners that are too slow: they are told how many they have missed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use futures_util::StreamExt;
    /// # use redlock_core::{Error, MemoryBackend, Redlock};
    /// use redlock_core::telemetry::Event;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Error> {
    /// # let redlock = Redlock::new([MemoryBackend::new()])?;
    /// let mut events = redlock.events();
    /// let lock = redlock.acquire("a", Duration::from_secs(10)).await?;
    /// assert!(matches!(events.next().await, Some(Event::Acquired { attempts: 1, .. })));
    /// # drop(lock);
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        let listeners = self
            .0
            .listeners
            .get_or_init(|| broadcast::Sender::new(BUFFER));
        BroadcastStream::new(listeners.subscribe()).map(|event| match event {
            Ok(event) => event,
            Err(BroadcastStreamRecvError::Lagged(missed)) => Event::Missed(missed),
        })
    }
}

impl Operation {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Acquire(..) => "acquire",
            Self::Extend(_) => "extend",
            Self::Release => "release",
        }
    }
}

impl Shared {
    /// The one place through which everything is said.
    pub(crate) fn emit(&self, event: Event) {
        trace(&event);
        #[cfg(feature = "metrics")]
        measure(&event);
        if let Some(listeners) = self.listeners.get() {
            // An error only says that nobody listens any more.
            let _ = listeners.send(event);
        }
    }

    /// A node's answer, in time or late.
    pub(crate) fn answered(
        &self,
        node: usize,
        operation: Operation,
        answer: &Result<Vote, BackendError>,
        took: Duration,
    ) {
        let node = &self.nodes[node].name;
        let operation = operation.name();
        match answer {
            // An answer like a vote: the next token will do.
            Err(error) if error.kind() == BackendErrorKind::TokenRefused => {
                tracing::debug!(target: "redlock", %node, operation, %error, ?took, "proposed again");
            }
            Ok(outcome) => {
                tracing::trace!(target: "redlock", %node, operation, ?outcome, ?took, "vote");
                #[cfg(feature = "metrics")]
                metrics::histogram!(
                    "redlock_node_seconds", "node" => Arc::clone(node), "operation" => operation
                )
                .record(took);
            }
            Err(error) => self.emit(Event::NodeError {
                node: Arc::clone(node),
                operation,
                error: error.clone(),
                took,
            }),
        }
    }
}

fn trace(event: &Event) {
    match event {
        Event::Acquired {
            resources,
            attempts,
            waited,
            validity,
        } => {
            tracing::debug!(target: "redlock", %resources, attempts, ?waited, ?validity, "acquired");
        }
        Event::NotAcquired {
            resources,
            attempts,
            waited,
            error,
        } => {
            tracing::debug!(target: "redlock", %resources, attempts, ?waited, %error, "not acquired");
        }
        Event::Renewed {
            resources,
            validity,
        } => {
            tracing::debug!(target: "redlock", %resources, ?validity, "renewed");
        }
        Event::RenewalFailed {
            resources,
            validity,
            error,
        } => {
            tracing::info!(target: "redlock", %resources, ?validity, %error, "renewal failed");
        }
        Event::Healed { resources, node } => {
            tracing::info!(target: "redlock", %resources, %node, "healed");
        }
        Event::Released {
            resources,
            held,
            validity,
            confirmed,
        } => {
            tracing::debug!(target: "redlock", %resources, ?held, ?validity, confirmed, "released");
        }
        Event::Lost { resources, held } => {
            tracing::warn!(target: "redlock", %resources, ?held, "lost");
        }
        Event::NodeError {
            node,
            operation,
            error,
            took,
        } => {
            tracing::debug!(target: "redlock", %node, operation, %error, ?took, "node error");
        }
        Event::Missed(_) => {}
    }
}

#[cfg(feature = "metrics")]
fn measure(event: &Event) {
    use metrics::{counter, histogram};

    use crate::BackendErrorKind as Kind;

    let acquisition = |outcome, waited: Duration| {
        counter!("redlock_acquisitions_total", "outcome" => outcome).increment(1);
        histogram!("redlock_wait_seconds", "outcome" => outcome).record(waited);
    };
    match event {
        Event::Acquired { waited, .. } => acquisition("acquired", *waited),
        Event::NotAcquired { waited, error, .. } => {
            let outcome = match error {
                Error::Locked(_) => "locked",
                Error::Late(_) => "late",
                _ => "no_quorum",
            };
            acquisition(outcome, *waited);
        }
        Event::Renewed { .. } => {
            counter!("redlock_renewals_total", "outcome" => "renewed").increment(1);
        }
        Event::RenewalFailed { .. } => {
            counter!("redlock_renewals_total", "outcome" => "failed").increment(1);
        }
        Event::Healed { node, .. } => {
            counter!("redlock_healed_total", "node" => Arc::clone(node)).increment(1);
        }
        Event::Released { held, validity, .. } => {
            histogram!("redlock_hold_seconds").record(*held);
            histogram!("redlock_release_validity_seconds").record(*validity);
        }
        Event::Lost { held, .. } => {
            histogram!("redlock_hold_seconds").record(*held);
            counter!("redlock_lost_total").increment(1);
        }
        Event::NodeError {
            node,
            operation,
            error,
            ..
        } => {
            let kind = match error.kind() {
                Kind::Timeout => "timeout",
                Kind::Unreachable => "unreachable",
                Kind::Server => "server",
                Kind::Unsupported => "unsupported",
                Kind::TokenRefused => "token refused",
            };
            counter!(
                "redlock_node_errors_total",
                "node" => Arc::clone(node), "operation" => *operation, "kind" => kind
            )
            .increment(1);
        }
        Event::Missed(_) => {}
    }
}

/// One lock more, or one less, that is kept alive.
pub(crate) fn kept(change: f64) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("redlock_kept_locks").increment(change);
    #[cfg(not(feature = "metrics"))]
    let _ = change;
}
