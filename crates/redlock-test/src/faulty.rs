//! A node that misbehaves on purpose.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redlock_core::{
    BackendError, BackendErrorKind, Instant, LockBackend, LockValue, Resources, Vote,
};
use tokio::time::sleep;

/// Wraps a backend and does to its operations what a test says. Clones are the same node.
///
/// As on a network, a request that is under way lands whether or not the caller still waits, and
/// requests do not keep their order.
#[derive(Debug)]
pub struct Faulty<B> {
    inner: Arc<B>,
    plan: Arc<Mutex<Plan>>,
}

impl<B> Clone for Faulty<B> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            plan: Arc::clone(&self.plan),
        }
    }
}

/// An operation of [`LockBackend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`LockBackend::acquire`]
    Acquire,
    /// [`LockBackend::release`]
    Release,
    /// [`LockBackend::extend`]
    Extend,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The request takes this long to the node, the reply this long back.
    Delay {
        /// From the call until the node executes it.
        request: Duration,
        /// From then until the caller has the answer.
        reply: Duration,
    },
    /// The request never arrives, and no answer ever comes.
    LoseRequest,
    /// The node executes the request, and no answer ever comes.
    LoseReply,
    /// The node refuses without looking.
    Refuse,
    /// An error, and nothing is executed.
    Fail(BackendErrorKind),
    /// An error, although the node executes the request.
    FailAfter(BackendErrorKind),
    /// An error that says that nothing has happened and nothing will.
    Down,
    /// The backend panics.
    Panic,
}

/// An operation that the backend was asked for.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which.
    pub operation: Operation,
    /// When.
    pub at: Instant,
    /// On what.
    pub resources: Resources,
    /// With which value.
    pub value: LockValue,
    /// For how long, where the operation says so.
    pub ttl: Option<Duration>,
}

#[derive(Debug, Default)]
struct Plan {
    always: HashMap<Operation, Fault>,
    once: VecDeque<(Operation, Fault)>,
    calls: Vec<Call>,
}

impl<B: LockBackend> Faulty<B> {
    /// A node that behaves, until told otherwise.
    pub fn new(inner: B) -> Self {
        Self {
            inner: Arc::new(inner),
            plan: Arc::default(),
        }
    }

    /// The backend behind.
    #[must_use]
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// From now on this becomes of every such operation.
    pub fn on(&self, operation: Operation, fault: Fault) {
        self.plan().always.insert(operation, fault);
    }

    /// From now on this becomes of every operation.
    pub fn on_all(&self, fault: Fault) {
        for operation in [Operation::Acquire, Operation::Release, Operation::Extend] {
            self.on(operation, fault);
        }
    }

    /// This becomes of the next such operation that has no other fault queued, and only of that.
    pub fn once(&self, operation: Operation, fault: Fault) {
        self.plan().once.push_back((operation, fault));
    }

    /// From now on the node behaves.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.always.clear();
        plan.once.clear();
    }

    /// Every operation asked for so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.plan().calls.clone()
    }

    /// How often this operation was asked for so far.
    #[must_use]
    pub fn count(&self, operation: Operation) -> usize {
        let calls = &self.plan().calls;
        calls
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(&self, call: Call) -> Result<Vote, BackendError> {
        let fault = {
            let mut plan = self.plan();
            plan.calls.push(call.clone());
            let queued = plan
                .once
                .iter()
                .position(|(operation, _)| *operation == call.operation);
            let once = queued
                .and_then(|at| plan.once.remove(at))
                .map(|(_, fault)| fault);
            once.or_else(|| plan.always.get(&call.operation).copied())
        };
        let error = |kind| Err(BackendError::new(kind, "a fault made by the test"));
        match fault {
            None => self.execute(call).await,
            Some(Fault::Delay { request, reply }) => {
                let node = self.clone();
                let landing = tokio::spawn(async move {
                    sleep(request).await;
                    let answer = node.execute(call).await;
                    sleep(reply).await;
                    answer
                });
                landing.await.expect("the request lands")
            }
            Some(Fault::LoseRequest) => pending().await,
            Some(Fault::LoseReply) => {
                let _ = self.execute(call).await;
                pending().await
            }
            Some(Fault::Refuse) => Ok(Vote::Refused),
            Some(Fault::Fail(kind)) => error(kind),
            Some(Fault::FailAfter(kind)) => {
                let _ = self.execute(call).await;
                error(kind)
            }
            Some(Fault::Down) => {
                error(BackendErrorKind::Unreachable).map_err(BackendError::not_executed)
            }
            Some(Fault::Panic) => panic!("a panic made by the test"),
        }
    }

    async fn execute(&self, call: Call) -> Result<Vote, BackendError> {
        let Call {
            resources, value, ..
        } = &call;
        let ttl = call.ttl.unwrap_or_default();
        match call.operation {
            Operation::Acquire => self.inner.acquire(resources, value, ttl).await,
            Operation::Release => self.inner.release(resources, value).await,
            Operation::Extend => self.inner.extend(resources, value, ttl).await,
        }
    }
}

fn call(
    operation: Operation,
    resources: &Resources,
    value: &LockValue,
    ttl: Option<Duration>,
) -> Call {
    Call {
        operation,
        at: Instant::now(),
        resources: resources.clone(),
        value: value.clone(),
        ttl,
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<B: LockBackend> LockBackend for Faulty<B> {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.carry(call(Operation::Acquire, resources, value, Some(ttl)))
            .await
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        self.carry(call(Operation::Release, resources, value, None))
            .await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.carry(call(Operation::Extend, resources, value, Some(ttl)))
            .await
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.inner.name()
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        self.inner.check(resources)
    }
}
