//! A node in an `SQLite` database: an example of a backend for a store that is not Redis.

use std::{
    borrow::Cow,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use redlock_core::{
    BackendError, BackendErrorKind, Holder, LockBackend, LockValue, Resources, Vote,
    validity::whole_millis,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior::Immediate};
use tokio::{sync::Mutex, task::spawn_blocking};

/// An `SQLite` database as a node. Clones share one connection; every process opens the file for itself.
#[derive(Clone, Debug)]
pub struct SqliteNode {
    name: Option<String>,
    connection: Arc<Mutex<Connection>>,
}

#[derive(Clone, Copy)]
enum Operation {
    Acquire(Duration),
    Release,
    Extend(Duration),
}

/// How long an operation waits for other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

// FULL, as a node must not forget a lease when the power fails. A name is a BLOB, as SQLite leaves
// undefined how it compares texts that contain a NUL.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS leases (
        name BLOB PRIMARY KEY, value TEXT NOT NULL, until INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS leases_by_end ON leases (until);";

// The node's own clock, in milliseconds. It is a wall clock: stepped forward it ends leases early, as on Redis.
const NOW: &str = "SELECT CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER)";
const FORGET_EXPIRED: &str = "DELETE FROM leases WHERE until < ?1";
const ACQUIRE: &str = "INSERT INTO leases VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const RELEASE: &str = "DELETE FROM leases WHERE name = ?1 AND value = ?2";
const EXTEND: &str = "UPDATE leases SET until = max(until, ?3) WHERE name = ?1 AND value = ?2";
const INSPECT: &str = "SELECT value, until - ?2 FROM leases WHERE name = ?1 AND until >= ?2";

impl SqliteNode {
    /// Opens the database, or creates it. This blocks.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub fn open(file: impl AsRef<Path>) -> rusqlite::Result<Self> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let start = Instant::now();
        // SQLite itself does not wait while another process turns the same new file to WAL.
        while let Err(error) = connection.execute_batch(SCHEMA) {
            if !is_busy(&error) || start.elapsed() > BUSY_TIMEOUT {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            name: connection.path().map(str::to_owned),
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    async fn ask(
        &self,
        operation: Operation,
        names: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        let (names, value) = (names.clone(), value.clone());
        self.run(move |connection| vote(connection, operation, &names, &value))
            .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        // First come, first served. The guard goes with the work, so that the next one waits for it even if
        // its own caller is gone.
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        spawn_blocking(move || work(&mut connection))
            .await
            .map_err(|error| BackendError::new(BackendErrorKind::Server, error))?
            .map_err(backend_error)
    }
}

/// One transaction, at one moment of the node's clock.
fn vote(
    connection: &mut Connection,
    operation: Operation,
    names: &Resources,
    value: &LockValue,
) -> rusqlite::Result<Vote> {
    // From here on nobody else writes; the clock is read after the wait for those who did.
    let transaction = connection.transaction_with_behavior(Immediate)?;
    let now: i64 = transaction.query_row(NOW, (), |row| row.get(0))?;
    transaction.execute(FORGET_EXPIRED, [now])?;
    let mut changed = 0;
    for name in names.iter() {
        let (name, value) = (name.as_bytes(), value.as_str());
        changed += match operation {
            Operation::Acquire(ttl) => transaction.execute(ACQUIRE, (name, value, end(now, ttl))),
            Operation::Release => transaction.execute(RELEASE, (name, value)),
            Operation::Extend(ttl) => transaction.execute(EXTEND, (name, value, end(now, ttl))),
        }?;
    }
    let all = changed == names.len();
    // Only a release does a part of what it was asked for; anything else is rolled back by being dropped.
    if all || matches!(operation, Operation::Release) {
        transaction.commit()?;
    }
    Ok(Vote::granted_if(all))
}

/// Only reads, and waits for nobody who writes.
fn holder(connection: &Connection, name: &str) -> rusqlite::Result<Option<Holder>> {
    let now: i64 = connection.query_row(NOW, (), |row| row.get(0))?;
    let lease = connection.query_row(INSPECT, (name.as_bytes(), now), |row| {
        let (value, left): (String, i64) = (row.get(0)?, row.get(1)?);
        Ok(Holder::new(
            value,
            Duration::from_millis(left.unsigned_abs()),
        ))
    });
    lease.optional()
}

/// The last millisecond of a lease. The clock is rounded down, so that this one has to pass as a whole.
fn end(now: i64, ttl: Duration) -> i64 {
    now.saturating_add(i64::try_from(whole_millis(ttl)).unwrap_or(i64::MAX))
}

fn backend_error(error: rusqlite::Error) -> BackendError {
    if is_busy(&error) {
        // Others wrote all the time; what had begun was rolled back.
        BackendError::new(BackendErrorKind::Timeout, error).not_executed()
    } else {
        BackendError::new(BackendErrorKind::Server, error)
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

#[async_trait]
impl LockBackend for SqliteNode {
    async fn acquire(
        &self,
        names: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.ask(Operation::Acquire(ttl), names, value).await
    }

    async fn release(&self, names: &Resources, value: &LockValue) -> Result<Vote, BackendError> {
        self.ask(Operation::Release, names, value).await
    }

    async fn extend(
        &self,
        names: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.ask(Operation::Extend(ttl), names, value).await
    }

    async fn inspect(&self, name: &str) -> Result<Option<Holder>, BackendError> {
        let name = name.to_owned();
        self.run(move |connection| holder(connection, &name)).await
    }

    /// The whole path of the file, so that none is counted as two nodes.
    fn name(&self) -> Option<Cow<'_, str>> {
        self.name.as_deref().map(Cow::from)
    }
}
