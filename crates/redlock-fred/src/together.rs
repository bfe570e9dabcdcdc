//! Operations of many tasks: those of one moment are sent by one task, and their releases as one command.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use futures_util::future::{join, join_all};
use redlock_core::{
    BackendError, LockBackend, LockValue, Reply, Resources,
    redis::{self, RedisClient, Release, Shortcut},
};
use tokio::{
    runtime::{self, Handle},
    task::yield_now,
};

use crate::{
    node::{FredNode, Node},
    sender::{Sender, is_noscript},
};

/// So many operations are awaited one by one: alone each costs less.
const AT_ONCE: usize = 2;

/// How many operations are sent by one task at most.
const TOGETHER: usize = 32;

/// What waits until all tasks have run that are ready now.
#[derive(Default)]
pub(crate) struct Together {
    waiting: Mutex<Waiting>,
    under_way: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    begun: Vec<Begun>,
    /// Where a task is about to send it: nothing may wait for a thread that is blocked, or a runtime that nobody
    /// drives.
    senders: Vec<(ThreadId, runtime::Id)>,
}

/// An operation that nobody awaits.
struct Begun {
    operation: Operation,
    resources: Resources,
    value: LockValue,
    reply: Reply,
}

enum Operation {
    Acquire(Duration),
    Release(Shortcut, Release),
}

/// One operation that is awaited, or some that are not.
pub(crate) struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Together {
    pub(crate) fn under_way(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Relaxed);
        UnderWay(&self.under_way)
    }

    fn take(&self) -> Vec<Begun> {
        mem::take(&mut *self.waiting()).begun
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn begin_acquire(
    node: &Arc<Node>,
    resources: &Resources,
    value: &LockValue,
    ttl: Duration,
    reply: Reply,
) -> Result<(), Reply> {
    let operation = || Some(Operation::Acquire(ttl));
    begin(node, operation, resources, value, reply)
}

pub(crate) fn begin_release(
    node: &Arc<Node>,
    resources: &Resources,
    value: &LockValue,
    reply: Reply,
) -> Result<(), Reply> {
    let operation = || {
        let (shortcut, release) = node.backend().joinable_release(resources, value)?;
        Some(Operation::Release(shortcut, release))
    };
    begin(node, operation, resources, value, reply)
}

fn begin(
    node: &Arc<Node>,
    operation: impl FnOnce() -> Option<Operation>,
    resources: &Resources,
    value: &LockValue,
    reply: Reply,
) -> Result<(), Reply> {
    let busy = node.together.under_way.load(Relaxed) >= AT_ONCE;
    let (true, Ok(runtime)) = (busy && node.is_one_server(), Handle::try_current()) else {
        return Err(reply);
    };
    let Some(operation) = operation() else {
        return Err(reply);
    };
    if let Operation::Release(..) = operation {
        node.doubts.release(Arc::downgrade(node), resources, value);
    }
    let mut waiting = node.together.waiting();
    waiting.begun.push(Begun {
        operation,
        resources: resources.clone(),
        value: value.clone(),
        reply,
    });
    let sender = (thread::current().id(), runtime.id());
    let is_first = !waiting.senders.contains(&sender);
    if is_first {
        waiting.senders.push(sender);
    }
    drop(waiting);
    if is_first {
        let soon = Soon(Some(Arc::clone(node)));
        runtime.spawn(async move {
            yield_now().await;
            soon.send().await;
        });
    }
    Ok(())
}

/// Sends whatever waits then.
struct Soon(Option<Arc<Node>>);

impl Soon {
    async fn send(mut self) {
        let Some(node) = self.0.take() else { return };
        let mut waiting = node.together.take().into_iter();
        loop {
            let some: Vec<_> = waiting.by_ref().take(TOGETHER).collect();
            if waiting.len() == 0 {
                return send(node, some).await;
            }
            tokio::spawn(send(Arc::clone(&node), some));
        }
    }
}

impl Drop for Soon {
    fn drop(&mut self) {
        let Some(node) = self.0.take() else { return };
        // Its runtime has ended.
        for begun in node.together.take() {
            let never = BackendError::timeout().not_executed();
            begun.reply.answer(Err(never));
        }
    }
}

async fn send(node: Arc<Node>, begun: Vec<Begun>) {
    if begun.is_empty() {
        return;
    }
    let node = FredNode(node);
    let _under_way = node.0.together.under_way();
    let (mut acquires, mut releases, mut whom) = (Vec::new(), Vec::new(), Vec::new());
    for Begun {
        operation,
        resources,
        value,
        reply,
    } in begun
    {
        match operation {
            Operation::Acquire(ttl) => {
                let node = &node;
                acquires.push(async move {
                    reply.answer(node.acquire(&resources, &value, ttl).await);
                });
            }
            Operation::Release(shortcut, release) => {
                releases.push(release);
                whom.push(Released {
                    shortcut,
                    resources,
                    value,
                    reply,
                });
            }
        }
    }
    // In this order.
    join(release(&node.0, &releases, whom), join_all(acquires)).await;
}

/// A release that was sent with others.
struct Released {
    shortcut: Shortcut,
    resources: Resources,
    value: LockValue,
    reply: Reply,
}

async fn release(node: &Node, releases: &[Release], whom: Vec<Released>) {
    if releases.is_empty() {
        return;
    }
    let command: Vec<_> = Release::command(releases.iter()).collect();
    let words: Vec<_> = command.iter().map(AsRef::as_ref).collect();
    let answer = Sender::new(&node.line).command(&words).await;
    let answers = Release::each(releases.len(), answer);
    for (answer, released) in answers.zip(whom) {
        released.answered(node, answer);
    }
}

impl Released {
    fn answered(self, node: &Node, answer: Result<redis::Reply, BackendError>) {
        let backend = node.backend();
        let vote = match answer {
            Err(error) if is_noscript(&error) => Ok(None),
            answer => backend.vote(self.shortcut, &self.resources, answer),
        };
        if let Some(vote) = vote.transpose() {
            self.reply.answer(vote);
            return;
        }
        tokio::spawn(async move {
            let vote = backend.release(&self.resources, &self.value).await;
            self.reply.answer(vote);
        });
    }
}
