//! Whether replicas have what the master granted.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, RedisResult, aio::MultiplexedConnection};
use redlock_core::{BackendError, BackendErrorKind, validity::whole_millis};
use redlock_redis_rs::{Retire, Server, Witness, classify};
use tokio::sync::Mutex;

use crate::group::within;

/// How many replicas must have acknowledged a vote, and how soon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicas {
    pub(crate) count: usize,
    pub(crate) within: Duration,
}

/// For how long the key lives that is written to be acknowledged.
const MARKER_TTL: Duration = Duration::from_secs(1);

/// Waits for replicas on a connection of its own, which `WAIT` blocks meanwhile.
///
/// `WAIT` counts who has what its own connection wrote. A write here that comes after the vote is in
/// the replication stream after it, and so whoever has the one has the other. Votes that come while it
/// waits share the next.
pub(crate) struct Acknowledged {
    replicas: Replicas,
    connection: MultiplexedConnection,
    key: String,
    vote: Retire,
    /// How many waits have begun.
    begun: AtomicU64,
    last: Mutex<Waited>,
}

#[derive(Clone, Copy, Default)]
struct Waited {
    /// Counts from one.
    number: u64,
    acknowledged: usize,
}

impl Acknowledged {
    pub(crate) async fn new(server: &Server, replicas: Replicas) -> RedisResult<Self> {
        // Without timeouts of its own: the caller has one, and so has every wait.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let client = server.client()?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(Self {
            replicas,
            connection,
            key: server.key("redlock:acknowledged"),
            vote: server.retire(),
            begun: AtomicU64::new(0),
            last: Mutex::default(),
        })
    }

    async fn wait(&self) -> RedisResult<usize> {
        let mut commands = redis::pipe();
        let marker = commands.cmd("SET").arg(&self.key).arg("");
        marker.arg("EX").arg(MARKER_TTL.as_secs()).ignore();
        // Zero would wait for ever.
        let limit = whole_millis(self.replicas.within).max(1);
        commands.cmd("WAIT").arg(self.replicas.count).arg(limit);
        let mut connection = self.connection.clone();
        let waited = commands.query_async::<(usize,)>(&mut connection);
        // One that was given up may be waited for first.
        let limit = self
            .replicas
            .within
            .saturating_mul(2)
            .saturating_add(MARKER_TTL);
        Ok(within(limit, waited).await?.0)
    }
}

#[async_trait]
impl Witness for Acknowledged {
    async fn confirm(&self) -> Result<(), BackendError> {
        let begun_before = self.begun.load(SeqCst);
        let mut last = self.last.lock().await;
        if last.number <= begun_before {
            if self.vote.is_retired() {
                let cause = "nobody can be asked any more";
                return Err(BackendError::new(BackendErrorKind::Unreachable, cause));
            }
            let number = self.begun.fetch_add(1, SeqCst) + 1;
            let acknowledged = self.wait().await.map_err(|error| {
                let error = classify(error);
                // Nothing answers here any more: both connections are made anew.
                if error.may_have_happened() {
                    self.vote.retire();
                }
                error
            })?;
            *last = Waited {
                number,
                acknowledged,
            };
        }
        let (got, Replicas { count, within }) = (last.acknowledged, self.replicas);
        if got >= count {
            return Ok(());
        }
        let cause = format!("{got} of {count} replicas acknowledged it within {within:?}");
        Err(BackendError::new(BackendErrorKind::Server, cause))
    }
}
