//! Which server is the master now.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisError, RedisResult, Value,
    aio::MultiplexedConnection,
};
use redlock_core::{BackendError, BackendErrorKind};
use redlock_redis_rs::{Follow, Server, Witness, classify, has_code, moved_to};
use tokio::time::{Instant, timeout};

use crate::{
    acknowledged::{Acknowledged, Replicas},
    belief::{Belief, Master},
    watch::{LINGERING, Watch},
};

/// How long a sentinel may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long the others are waited for when a majority has answered: one of them may know of a newer master.
const GRACE: Duration = Duration::from_millis(25);

/// A master, its replicas, and the sentinels that watch them.
#[derive(Clone)]
pub(crate) struct Group(Arc<Inner>);

struct Inner {
    name: String,
    sentinels: Vec<Client>,
    /// How the master is spoken to, wherever it is.
    server: ConnectionInfo,
    replicas: Option<Replicas>,
    belief: Mutex<Option<Belief>>,
    /// When the sentinels were last asked for a master to connect to.
    looked: Mutex<Instant>,
}

impl Group {
    pub(crate) fn new(
        name: String,
        sentinels: Vec<Client>,
        server: ConnectionInfo,
        replicas: Option<Replicas>,
    ) -> Self {
        Self(Arc::new(Inner {
            name,
            sentinels,
            server,
            replicas,
            belief: Mutex::new(None),
            looked: Mutex::new(Instant::now()),
        }))
    }

    pub(crate) fn sentinels(&self) -> &[Client] {
        &self.0.sentinels
    }

    pub(crate) fn majority(&self) -> usize {
        self.0.sentinels.len() / 2 + 1
    }

    fn looked(&self) -> MutexGuard<'_, Instant> {
        self.0.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn belief(&self) -> MutexGuard<'_, Option<Belief>> {
        self.0.belief.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sentinel names this master.
    pub(crate) fn hear(&self, named: &Master) {
        if let Some(belief) = &mut *self.belief() {
            belief.hear(named, Instant::now());
        }
    }

    /// Believes this master, unless a newer one is known.
    pub(crate) fn learn(&self, named: Master) {
        let mut belief = self.belief();
        let newer = belief
            .take()
            .filter(|known| known.master.epoch > named.epoch);
        *belief = newer.or_else(|| Some(Belief::new(named, Instant::now())));
    }

    /// Asks the sentinels which master is to be believed.
    pub(crate) async fn look(&self) -> Result<Master, BackendError> {
        let named = self.named().await?;
        let mut belief = self.belief();
        let after = Belief::after(belief.clone(), &named, self.majority(), Instant::now())
            .map_err(|cause| BackendError::new(BackendErrorKind::Server, cause))?;
        Ok(belief.insert(after).master.clone())
    }

    /// The master that is believed; an error if that is elsewhere.
    fn believed_at(&self, address: &ConnectionAddr) -> Result<Master, BackendError> {
        match (&*self.belief(), address) {
            (
                Some(Belief { master, .. }),
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. },
            ) if (&master.host, &master.port) == (host, port) => Ok(master.clone()),
            _ => {
                let cause = "it was replaced as the master while it was dialled";
                Err(BackendError::new(BackendErrorKind::Server, cause))
            }
        }
    }

    /// A connection to a sentinel on which it can be [asked](Self::ask).
    pub(crate) async fn call(&self, sentinel: &Client) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        sentinel
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Which master a sentinel knows.
    pub(crate) async fn ask(&self, sentinel: &mut MultiplexedConnection) -> RedisResult<Master> {
        // Not by SENTINEL MASTERS, which tells the sentinel that leads a failover about it a second later.
        let mut questions = redis::pipe();
        for question in ["GET-MASTER-ADDR-BY-NAME", "MASTER"] {
            questions.cmd("SENTINEL").arg(question).arg(&self.0.name);
        }
        let (address, details): (Option<(String, u16)>, HashMap<String, String>) =
            questions.query_async(sentinel).await?;
        let epoch = details.get("config-epoch");
        match (address, epoch.and_then(|epoch| epoch.parse().ok())) {
            (Some((host, port)), Some(epoch)) => Ok(Master { epoch, host, port }),
            _ => Err((
                redis::ErrorKind::UnexpectedReturnType,
                "no master was named",
            )
                .into()),
        }
    }

    async fn call_and_ask(&self, sentinel: &Client) -> RedisResult<Master> {
        let asked = async { self.ask(&mut self.call(sentinel).await?).await };
        within(PATIENCE, asked).await
    }

    /// What the sentinels say, if a majority says anything.
    async fn named(&self) -> Result<Vec<Master>, BackendError> {
        // Who knows nothing yet hears everybody out, and afterwards nobody waits for one that hangs.
        let grace = if self.belief().is_none() {
            PATIENCE
        } else {
            GRACE
        };
        let mut asked: FuturesUnordered<_> = self
            .sentinels()
            .iter()
            .map(async |sentinel| (sentinel, self.call_and_ask(sentinel).await))
            .collect();
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        loop {
            let limit = if found.len() < self.majority() {
                PATIENCE
            } else {
                grace
            };
            match timeout(limit, asked.next()).await {
                Ok(Some((_, Ok(master)))) => found.push(master),
                Ok(Some((sentinel, Err(error)))) => {
                    failed.push(format!("{}: {error}", address_of(sentinel)));
                }
                Ok(None) | Err(_) => break,
            }
        }
        if found.len() >= self.majority() {
            return Ok(found);
        }
        let (named, count, failed) = (found.len(), self.sentinels().len(), failed.join("; "));
        let cause = format!("{named} of {count} sentinels name a master: {failed}");
        Err(BackendError::new(BackendErrorKind::Unreachable, cause))
    }
}

/// A sentinel's address in one spelling.
pub(crate) fn address_of(sentinel: &Client) -> String {
    let address = sentinel.get_connection_info().addr().to_string();
    address.to_ascii_lowercase()
}

/// The outcome, or a timeout.
pub(crate) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let elapsed = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(limit, future).await.map_err(elapsed)?
}

#[async_trait]
impl Follow for Group {
    async fn find(&self) -> Result<ConnectionInfo, BackendError> {
        *self.looked() = Instant::now();
        let Master { host, port, .. } = self.look().await?;
        Ok(moved_to(self.0.server.clone(), host, port))
    }

    async fn arrived(&self, server: &Server) -> Result<Option<Arc<dyn Witness>>, BackendError> {
        let master = self.believed_at(server.info().addr())?;
        let role: Vec<Value> = redis::cmd("ROLE")
            .query_async(&mut server.connection())
            .await
            .map_err(classify)?;
        match role.into_iter().next().map(redis::from_redis_value) {
            Some(Ok::<String, _>(role)) if role == "master" => {}
            other => {
                let cause = format!("it is no master but says that it is {other:?}");
                return Err(BackendError::new(BackendErrorKind::Server, cause));
            }
        }
        let looked = *self.looked();
        let watch = Watch::begin(self, master, server.retire(), looked);
        let acknowledged = match self.0.replicas {
            None => None,
            Some(replicas) => {
                let acknowledged = Acknowledged::new(server, replicas).await;
                Some(acknowledged.map_err(classify)?)
            }
        };
        Ok(Some(Arc::new(Confirmed {
            watch,
            acknowledged,
        })))
    }

    fn lingering(&self) -> Duration {
        LINGERING
    }

    fn condemns(&self, error: &RedisError) -> bool {
        ["NOREPLICAS", "MASTERDOWN", "LOADING"]
            .into_iter()
            .any(|code| has_code(error, code))
    }

    fn name(&self) -> Option<String> {
        let first = self.sentinels().iter().map(address_of);
        // However the sentinels are listed, it is the same node.
        Some(format!("{} of sentinel {}", self.0.name, first.min()?))
    }
}

/// Who has to confirm a vote.
struct Confirmed {
    watch: Arc<Watch>,
    acknowledged: Option<Acknowledged>,
}

#[async_trait]
impl Witness for Confirmed {
    async fn confirm(&self) -> Result<(), BackendError> {
        if let Some(replicas) = &self.acknowledged {
            replicas.confirm().await?;
        }
        if self.watch.has_ended() {
            let cause =
                "the sentinels have not been heard for too long to count a vote of this master";
            return Err(BackendError::new(BackendErrorKind::Unreachable, cause));
        }
        Ok(())
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.0.name)
            .field("belief", &self.belief())
            .finish_non_exhaustive()
    }
}
