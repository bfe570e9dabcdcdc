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
use redlock_redis_rs::{Follow, Server, Witness, classify};
use tokio::time::timeout;

use crate::{
    acknowledged::{Acknowledged, Replicas},
    watch,
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
    newest: Mutex<Option<Master>>,
}

/// A master as a sentinel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Master {
    /// Every failover has a higher one, of which the sentinels agree.
    pub(crate) epoch: u64,
    host: String,
    port: u16,
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
            newest: Mutex::new(None),
        }))
    }

    fn newest(&self) -> MutexGuard<'_, Option<Master>> {
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest master known, this one included; an error if this one is older.
    pub(crate) fn learn(&self, found: &Master) -> Result<(), BackendError> {
        let mut newest = self.newest();
        match &*newest {
            Some(newest) if newest.epoch > found.epoch => {
                let (old, new) = (found.epoch, newest.epoch);
                let cause = format!("the sentinels know epoch {old} only, and {new} was seen");
                Err(BackendError::new(BackendErrorKind::Server, cause))
            }
            _ => {
                *newest = Some(found.clone());
                Ok(())
            }
        }
    }

    /// The epoch of the newest master; an error if that is elsewhere.
    fn epoch_of(&self, address: &ConnectionAddr) -> Result<u64, BackendError> {
        let newest = self.newest();
        match (&*newest, address) {
            (
                Some(newest),
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. },
            ) if (&newest.host, &newest.port) == (host, port) => Ok(newest.epoch),
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

    /// What enough of the sentinels say.
    async fn named(&self) -> Result<Master, BackendError> {
        let count = self.0.sentinels.len();
        let enough = count / 2 + 1;
        let asked = self.0.sentinels.iter();
        let mut asked: FuturesUnordered<_> =
            asked.map(|sentinel| self.call_and_ask(sentinel)).collect();
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        loop {
            let limit = if found.len() < enough {
                PATIENCE
            } else {
                GRACE
            };
            match timeout(limit, asked.next()).await {
                Ok(Some(Ok(master))) => found.push(master),
                Ok(Some(Err(error))) => failed.push(error.to_string()),
                Ok(None) | Err(_) => break,
            }
        }
        if found.len() < enough {
            let (named, failed) = (found.len(), failed.join("; "));
            let cause = format!("{named} of {count} sentinels name a master: {failed}");
            return Err(BackendError::new(BackendErrorKind::Unreachable, cause));
        }
        Ok(most_trusted(&found).expect("one is enough").clone())
    }
}

/// The outcome, or a timeout.
pub(crate) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let elapsed = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(limit, future).await.map_err(elapsed)?
}

/// The master of the highest epoch; of several, the one that is named most often.
fn most_trusted(found: &[Master]) -> Option<&Master> {
    let votes = |master: &Master| found.iter().filter(|other| *other == master).count();
    found
        .iter()
        .max_by_key(|master| (master.epoch, votes(master)))
}

#[async_trait]
impl Follow for Group {
    async fn find(&self) -> Result<ConnectionInfo, BackendError> {
        let master = self.named().await?;
        self.learn(&master)?;
        let Master { host, port, .. } = master;
        let address = match self.0.server.addr().clone() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure,
                tls_params,
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        Ok(self.0.server.clone().set_addr(address))
    }

    async fn arrived(&self, server: &Server) -> Result<Option<Arc<dyn Witness>>, BackendError> {
        let epoch = self.epoch_of(server.info().addr())?;
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
        for sentinel in &self.0.sentinels {
            let watch = watch::watch(self.clone(), sentinel.clone(), epoch, server.retire());
            tokio::spawn(watch);
        }
        match self.0.replicas {
            None => Ok(None),
            Some(replicas) => {
                let witness = Acknowledged::new(server, replicas).await;
                Ok(Some(Arc::new(witness.map_err(classify)?)))
            }
        }
    }

    fn condemns(&self, error: &RedisError) -> bool {
        matches!(
            error.code(),
            Some("NOREPLICAS" | "MASTERDOWN" | "LOADING" | "READONLY")
        )
    }

    fn name(&self) -> Option<String> {
        let first = self.0.sentinels.iter().map(|sentinel| {
            let address = sentinel.get_connection_info().addr().to_string();
            address.to_ascii_lowercase()
        });
        // However the sentinels are listed, it is the same node.
        Some(format!("{} of sentinel {}", self.0.name, first.min()?))
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.0.name)
            .field("newest", &self.newest())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(epoch: u64, port: u16) -> Master {
        let host = "10.0.0.1".to_owned();
        Master { epoch, host, port }
    }

    #[test]
    fn the_highest_epoch_wins_and_then_the_majority() {
        let found = [master(3, 1), master(3, 1), master(4, 2)];
        assert_eq!(most_trusted(&found), Some(&master(4, 2)));
        let found = [master(0, 2), master(0, 1), master(0, 1)];
        assert_eq!(most_trusted(&found), Some(&master(0, 1)));
        assert_eq!(most_trusted(&[]), None);
    }

    #[test]
    fn an_older_master_is_never_believed_again() {
        let server = redis::IntoConnectionInfo::into_connection_info("redis://h").unwrap();
        let group = Group::new("m".to_owned(), Vec::new(), server, None);
        group.learn(&master(3, 1)).unwrap();
        group.learn(&master(4, 2)).unwrap();
        group.learn(&master(4, 2)).unwrap();
        let error = group.learn(&master(3, 1)).unwrap_err();
        assert!(error.to_string().contains("epoch 3"), "{error}");
        let address = |port| ConnectionAddr::Tcp("10.0.0.1".to_owned(), port);
        assert_eq!(group.epoch_of(&address(2)).unwrap(), 4);
        assert!(group.epoch_of(&address(1)).is_err(), "replaced meanwhile");
    }
}
