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
    BackendError, BackendErrorKind, Holder, Instant, LockBackend, LockValue, Place, Proposal,
    Reply, Resources, Vote, Wake,
};
use tokio::{task::JoinHandle, time::sleep};

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
#[non_exhaustive]
pub enum Operation {
    /// [`LockBackend::acquire`], and [`LockBackend::acquire_fenced`]
    Acquire,
    /// [`LockBackend::release`] and [`LockBackend::undo`]
    Release,
    /// [`LockBackend::extend`]
    Extend,
    /// [`LockBackend::inspect`]
    Inspect,
    /// [`LockBackend::wait`]
    Wait,
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
    /// Each request takes a time of its own to the node, so that requests overtake each other.
    ///
    /// The times follow from the seed and from how many operations the backend was asked for before, and
    /// from nothing else. Give every node a seed of its own: nodes with the same one reorder alike.
    Reorder {
        /// The same seed gives the same times.
        seed: u64,
        /// No request takes longer.
        up_to: Duration,
    },
    /// The request never arrives, and no answer ever comes: a hang of which nothing remains.
    #[doc(alias = "hang")]
    LoseRequest,
    /// The node executes the request, and no answer ever comes: a hang that has done its work.
    #[doc(alias = "hang")]
    LoseReply,
    /// The node executes the request and answers, and later executes the same request once more.
    ///
    /// Nobody hears the second answer, and it is one call.
    Duplicate {
        /// From the answer until the node executes it again.
        after: Duration,
    },
    /// The node refuses without looking. To inspect and to wait is refused as not supported.
    Refuse,
    /// An error, and nothing is executed.
    Fail(BackendErrorKind),
    /// An error, although the node executes the request.
    FailAfter(BackendErrorKind),
    /// An error at once, and the node executes the request later.
    LandLate {
        /// What the caller is told.
        kind: BackendErrorKind,
        /// From the call until the node executes it.
        after: Duration,
    },
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
    /// With which value, where the operation has one.
    pub value: Option<LockValue>,
    /// For how long, where the operation says so.
    pub ttl: Option<Duration>,
    /// With which fencing token, if it was asked for with one.
    pub proposal: Option<Proposal>,
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
        use Operation::{Acquire, Extend, Inspect, Release, Wait};
        for operation in [Acquire, Release, Extend, Inspect, Wait] {
            self.on(operation, fault);
        }
    }

    /// This becomes of the next such operation that has no other fault queued, and only of that.
    pub fn once(&self, operation: Operation, fault: Fault) {
        self.plan().once.push_back((operation, fault));
    }

    /// From now on the node behaves; what is under way still lands.
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

    /// Does this call to the node as planned; `execute` is what the node does, `refused` what it says instead.
    async fn carry<T, F, A>(
        &self,
        call: Call,
        refused: Result<T, BackendError>,
        execute: F,
    ) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: FnOnce(Arc<B>) -> A + Clone + Send + 'static,
        A: Future<Output = Result<T, BackendError>> + Send,
    {
        let (fault, number) = {
            let mut plan = self.plan();
            let number = plan.calls.len();
            let queued = plan
                .once
                .iter()
                .position(|(operation, _)| *operation == call.operation);
            let once = queued
                .and_then(|at| plan.once.remove(at))
                .map(|(_, fault)| fault);
            let fault = once.or_else(|| plan.always.get(&call.operation).copied());
            plan.calls.push(call);
            (fault, number)
        };
        let node = Arc::clone(&self.inner);
        let error = |kind| Err(BackendError::new(kind, "a fault made by the test"));
        match fault {
            None => execute(node).await,
            Some(Fault::Delay { request, reply }) => {
                let answer = send(node, execute, request).await.expect("it lands");
                sleep(reply).await;
                answer
            }
            Some(Fault::Reorder { seed, up_to }) => {
                let request = up_to.mul_f64(share(seed, number));
                send(node, execute, request).await.expect("it lands")
            }
            Some(Fault::LoseRequest) => pending().await,
            Some(Fault::LoseReply) => {
                let _ = execute(node).await;
                pending().await
            }
            Some(Fault::Duplicate { after }) => {
                let answer = execute.clone()(Arc::clone(&node)).await;
                drop(send(node, execute, after));
                answer
            }
            Some(Fault::Refuse) => refused,
            Some(Fault::Fail(kind)) => error(kind),
            Some(Fault::FailAfter(kind)) => {
                let _ = execute(node).await;
                error(kind)
            }
            Some(Fault::LandLate { kind, after }) => {
                drop(send(node, execute, after));
                error(kind)
            }
            Some(Fault::Down) => {
                error(BackendErrorKind::Unreachable).map_err(BackendError::not_executed)
            }
            Some(Fault::Panic) => panic!("a panic made by the test"),
        }
    }
}

/// Has the node execute it after this time, whether or not anybody waits for the answer.
fn send<B, T, A>(
    node: Arc<B>,
    execute: impl FnOnce(Arc<B>) -> A + Send + 'static,
    after: Duration,
) -> JoinHandle<T>
where
    B: LockBackend,
    T: Send + 'static,
    A: Future<Output = T> + Send,
{
    tokio::spawn(async move {
        sleep(after).await;
        execute(node).await
    })
}

/// The pseudo-random number in `[0, 1)` that comes at this place after the seed, by `SplitMix64`.
fn share(seed: u64, place: usize) -> f64 {
    let place = place as u64 + 1;
    let mut bits = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // Of 64 bits a float could not hold all, and would round up to 1.
    let high = u32::try_from(bits >> 32).expect("32 bits");
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}

fn call(
    operation: Operation,
    resources: &Resources,
    value: Option<&LockValue>,
    ttl: Option<Duration>,
) -> Call {
    Call {
        operation,
        at: Instant::now(),
        resources: resources.clone(),
        value: value.cloned(),
        ttl,
        proposal: None,
    }
}

fn unsupported<T>() -> Result<T, BackendError> {
    let cause = "a fault made by the test";
    Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed())
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
        let call = call(Operation::Acquire, resources, Some(value), Some(ttl));
        let (resources, value) = (resources.clone(), value.clone());
        let execute =
            move |node: Arc<B>| async move { node.acquire(&resources, &value, ttl).await };
        self.carry(call, Ok(Vote::Refused), execute).await
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let mut call = call(Operation::Acquire, resources, Some(value), Some(ttl));
        call.proposal = Some(proposal);
        let (resources, value) = (resources.clone(), value.clone());
        let execute = move |node: Arc<B>| async move {
            let asked = node.acquire_fenced(&resources, &value, ttl, proposal);
            asked.await
        };
        self.carry(call, Ok(Vote::Refused), execute).await
    }

    fn supports_fencing(&self) -> bool {
        self.inner.supports_fencing()
    }

    fn max_ttl(&self) -> Option<Duration> {
        self.inner.max_ttl()
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        let call = call(Operation::Release, resources, Some(value), None);
        let (resources, value) = (resources.clone(), value.clone());
        let execute = move |node: Arc<B>| async move { node.release(&resources, &value).await };
        self.carry(call, Ok(Vote::Refused), execute).await
    }

    async fn undo(&self, resources: &Resources, value: &LockValue) -> Result<Vote, BackendError> {
        let call = call(Operation::Release, resources, Some(value), None);
        let (resources, value) = (resources.clone(), value.clone());
        let execute = move |node: Arc<B>| async move { node.undo(&resources, &value).await };
        self.carry(call, Ok(Vote::Refused), execute).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let call = call(Operation::Extend, resources, Some(value), Some(ttl));
        let (resources, value) = (resources.clone(), value.clone());
        let execute = move |node: Arc<B>| async move { node.extend(&resources, &value, ttl).await };
        self.carry(call, Ok(Vote::Refused), execute).await
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        let name = Resources::new([resource]).expect("a name");
        let call = call(Operation::Inspect, &name, None, None);
        let execute = move |node: Arc<B>| async move { node.inspect(&name[0]).await };
        self.carry(call, unsupported(), execute).await
    }

    async fn wait(&self, resources: &Resources, place: Place) -> Result<Wake, BackendError> {
        let call = call(Operation::Wait, resources, None, None);
        let resources = resources.clone();
        let execute = move |node: Arc<B>| async move { node.wait(&resources, place).await };
        self.carry(call, unsupported(), execute).await
    }

    fn is_awaited(&self, resources: &Resources) -> bool {
        self.inner.is_awaited(resources)
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.inner.name()
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        self.inner.check(resources)
    }

    /// Awaited instead, with its faults.
    fn begin_acquire(
        &self,
        _: &Resources,
        _: &LockValue,
        _: Duration,
        reply: Reply,
    ) -> Result<(), Reply> {
        Err(reply)
    }

    fn begin_release(&self, _: &Resources, _: &LockValue, reply: Reply) -> Result<(), Reply> {
        Err(reply)
    }
}
