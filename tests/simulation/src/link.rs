//! A client's way to a node: the backend under the real core.

use std::{
    borrow::Cow,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redlock_core::{
    BackendError, BackendErrorKind, Instant, LockBackend, LockValue, Probation, Proposal, Reply,
    Resources, RestartGuard, Vote,
};

use tokio::time::timeout;

use crate::{
    history::NAMES,
    network::{Answer, Ask, Request},
    node::{Set, Value},
    world::World,
};

/// For how long a driver waits for an answer that nobody awaits.
const SILENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    world: World,
    client: usize,
    node: usize,
    /// Has the node examined on every connection.
    guard: Option<RestartGuard>,
    fenced: bool,
    connection: Mutex<Option<Connection>>,
}

/// A connection to one process, which has been examined.
#[derive(Clone, Copy, Debug)]
struct Connection {
    incarnation: u32,
    probation: Probation,
}

impl Link {
    pub(crate) fn new(world: &World, client: usize, node: usize) -> Self {
        let plan = &world.state().plan;
        let guard = plan.guarded.then(|| RestartGuard::new(plan.longest_ttl()));
        Self(Arc::new(Inner {
            world: world.clone(),
            client,
            node,
            guard,
            fenced: plan.fencing.is_some(),
            connection: Mutex::default(),
        }))
    }

    /// Whether what is asked is begun rather than awaited: on all nodes, on some, or on none. Never before it is
    /// connected.
    fn begins(&self) -> bool {
        if self.0.guard.is_some() && self.0.connection().is_none() {
            return false;
        }
        match self.0.client % 3 {
            0 => self.0.node.is_multiple_of(2),
            1 => true,
            _ => false,
        }
    }

    fn begin(
        &self,
        resources: &Resources,
        value: &LockValue,
        ask: Ask,
        reply: Reply,
    ) -> Result<(), Reply> {
        if !self.begins() {
            return Err(reply);
        }
        let (link, resources, value) = (self.clone(), resources.clone(), value.clone());
        tokio::spawn(async move {
            let answer = timeout(SILENCE, link.0.ask(&resources, &value, ask)).await;
            reply.answer(answer.unwrap_or_else(|_| Err(BackendError::timeout())));
        });
        Ok(())
    }
}

impl Inner {
    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        let connection = self.connection.lock();
        connection.unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        resources: &Resources,
        value: &LockValue,
        ask: Ask,
    ) -> Result<Vote, BackendError> {
        let resources = set(resources);
        let value = self
            .world
            .asks((self.client, self.node), resources, value, ask);
        let connection = match self.guard {
            None => None,
            Some(guard) => Some(self.connected(guard, value).await?),
        };
        let sent = Instant::now();
        let answer = self
            .send(Request {
                client: self.client,
                node: self.node,
                set: resources,
                value,
                ask,
                incarnation: connection.map(|it| it.incarnation),
                reply: None,
            })
            .await;
        match answer {
            Answer::Granted => {
                if let Some(it) = connection.filter(|_| !matches!(ask, Ask::Release)) {
                    it.probation.check(matches!(ask, Ask::Fenced(..)), sent)?;
                }
                Ok(Vote::Granted)
            }
            Answer::TokenRefused(next) => Err(BackendError::token_refused(next)),
            Answer::Refused => Ok(Vote::Refused),
            Answer::NobodyThere => {
                *self.connection() = None;
                Err(unreachable_node().not_executed())
            }
            Answer::Broken | Answer::Process(..) => {
                *self.connection() = None;
                Err(unreachable_node())
            }
        }
    }

    /// The present connection, or a new one.
    async fn connected(
        &self,
        guard: RestartGuard,
        value: Value,
    ) -> Result<Connection, BackendError> {
        if let Some(connection) = *self.connection() {
            return Ok(connection);
        }
        let examine = Request {
            client: self.client,
            node: self.node,
            set: Set(0),
            value,
            ask: Ask::Examine,
            incarnation: None,
            reply: None,
        };
        match self.send(examine).await {
            Answer::Process(incarnation, age) => {
                let connection = Connection {
                    incarnation,
                    probation: guard.probation(age),
                };
                *self.connection() = Some(connection);
                Ok(connection)
            }
            _ => Err(unreachable_node().not_executed()),
        }
    }

    async fn send(&self, request: Request) -> Answer {
        match self.world.send(request).await {
            Ok(answer) => answer,
            // Lost: it never comes.
            Err(_) => pending().await,
        }
    }
}

fn unreachable_node() -> BackendError {
    BackendError::new(BackendErrorKind::Unreachable, "the connection broke")
}

/// The resources by their numbers.
pub(crate) fn set(resources: &Resources) -> Set {
    let bit = |name: &String| NAMES.iter().position(|known| known == name);
    let bits = resources.iter().filter_map(bit);
    Set(bits.fold(0, |set, bit| set | 1 << bit))
}

#[async_trait]
impl LockBackend for Link {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.0.ask(resources, value, Ask::Acquire(ttl)).await
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        self.0.ask(resources, value, Ask::Release).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.0.ask(resources, value, Ask::Extend(ttl)).await
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        self.0
            .ask(resources, value, Ask::Fenced(ttl, proposal))
            .await
    }

    fn supports_fencing(&self) -> bool {
        self.0.fenced
    }

    fn max_ttl(&self) -> Option<Duration> {
        self.0.guard.map(RestartGuard::max_ttl)
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        Some(format!("n{}", self.0.node).into())
    }

    fn begin_acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        reply: Reply,
    ) -> Result<(), Reply> {
        self.begin(resources, value, Ask::Acquire(ttl), reply)
    }

    fn begin_release(
        &self,
        resources: &Resources,
        value: &LockValue,
        reply: Reply,
    ) -> Result<(), Reply> {
        self.begin(resources, value, Ask::Release, reply)
    }
}
