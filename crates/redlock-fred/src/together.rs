//! Operations of many tasks: those of one moment are sent by one task, and their releases as one command.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use futures_util::future::{join_all, join3};
use redlock_core::{
    BackendError, LockBackend, LockValue, Reply, Resources, Vote,
    redis::{RedisBackend, RedisClient, Release, Shortcut},
};
use tokio::{
    runtime::{self, Handle},
    task::yield_now,
};

use crate::{
    line::Command,
    node::{FredNode, Node},
    sender::{Sender, is_noscript, reply},
};

/// So many operations are awaited one by one: alone each costs less.
const AT_ONCE: usize = 1;

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

#[derive(Clone, Copy)]
enum Operation {
    Acquire(Duration),
    Release,
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
    begin(node, Operation::Acquire(ttl), resources, value, reply)
}

pub(crate) fn begin_release(
    node: &Arc<Node>,
    resources: &Resources,
    value: &LockValue,
    reply: Reply,
) -> Result<(), Reply> {
    begin(node, Operation::Release, resources, value, reply)
}

fn begin(
    node: &Arc<Node>,
    operation: Operation,
    resources: &Resources,
    value: &LockValue,
    reply: Reply,
) -> Result<(), Reply> {
    let busy = node.together.under_way.load(Relaxed) >= AT_ONCE;
    let (true, Ok(runtime)) = (busy && node.is_one_server(), Handle::try_current()) else {
        return Err(reply);
    };
    if let Operation::Release = operation {
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
    let _under_way = node.together.under_way();
    let backend = node.backend();
    let (mut sets, mut releases, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for begun in begun {
        let Begun {
            operation,
            resources,
            value,
            ..
        } = &begun;
        match *operation {
            Operation::Acquire(ttl) => {
                let packed = |shortcut, words: &[&str]| {
                    let command = Command::new(words[0], words[1..].iter().copied(), 0);
                    (command, shortcut)
                };
                match backend.acquire_at_once(resources, value, ttl, packed) {
                    Some((command, shortcut)) => {
                        sets.push((command, Acquiring::new(&node, begun, shortcut)));
                    }
                    None => others.push(begun),
                }
            }
            Operation::Release => match backend.joinable_release(resources, value) {
                Some((shortcut, release)) => releases.push((release, shortcut, begun)),
                None => others.push(begun),
            },
        }
    }
    // In this order.
    let others = others.into_iter().map(|begun| begun.alone(&node));
    let acquired = acquire(&node, &backend, sets);
    join3(
        release(&node, &backend, releases),
        acquired,
        join_all(others),
    )
    .await;
}

impl Begun {
    /// Does it by itself.
    async fn alone(self, node: &Arc<Node>) {
        let node = FredNode(Arc::clone(node));
        let (resources, value) = (&self.resources, &self.value);
        let vote = match self.operation {
            Operation::Acquire(ttl) => node.acquire(resources, value, ttl).await,
            Operation::Release => node.0.backend().release(resources, value).await,
        };
        self.reply.answer(vote);
    }
}

/// An acquire that was sent with others; dropped without an answer it is in doubt.
struct Acquiring<'a> {
    node: &'a Node,
    begun: Option<Begun>,
    shortcut: Shortcut,
}

impl<'a> Acquiring<'a> {
    const fn new(node: &'a Node, begun: Begun, shortcut: Shortcut) -> Self {
        let begun = Some(begun);
        Self {
            node,
            begun,
            shortcut,
        }
    }

    fn answer(&mut self, vote: Result<Vote, BackendError>) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        if vote.as_ref().is_err_and(BackendError::may_have_happened) {
            // No answer comes any more.
            let open = Arc::new(AtomicBool::new(true));
            self.node.doubts.add(&begun.value, open);
        }
        begun.reply.answer(vote);
    }
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        self.answer(Err(BackendError::timeout()));
    }
}

async fn acquire(
    node: &Node,
    backend: &RedisBackend<Sender>,
    acquires: Vec<(Command, Acquiring<'_>)>,
) {
    if acquires.is_empty() {
        return;
    }
    let client = match backend.client().client().await {
        Ok(client) => client,
        Err(error) => {
            let error = error.not_executed();
            for (_, mut acquiring) in acquires {
                acquiring.answer(Err(error.clone()));
            }
            return;
        }
    };
    let answered = |mut acquiring: Acquiring<'_>, answer: Result<_, _>| {
        let answer = answer.and_then(|frame| reply(&frame));
        let Some(begun) = &acquiring.begun else {
            return;
        };
        let vote = backend.vote(acquiring.shortcut, &begun.resources, answer);
        // A SET is never refused for what it is.
        let unknown = || Err(BackendError::timeout());
        acquiring.answer(vote.and_then(|vote| vote.map_or_else(unknown, Ok)));
    };
    node.line.exchange_each(&client, acquires, answered).await;
}

async fn release(
    node: &Arc<Node>,
    backend: &RedisBackend<Sender>,
    whom: Vec<(Release, Shortcut, Begun)>,
) {
    if whom.is_empty() {
        return;
    }
    let releases = whom.iter().map(|(release, ..)| release);
    let command: Vec<_> = Release::command(releases).collect();
    let words: Vec<_> = command.iter().map(AsRef::as_ref).collect();
    let answer = backend.client().command(&words).await;
    let answers = Release::each(whom.len(), answer);
    for (answer, (_, shortcut, begun)) in answers.zip(whom) {
        let vote = match answer {
            Err(error) if is_noscript(&error) => Ok(None),
            answer => backend.vote(shortcut, &begun.resources, answer),
        };
        if let Some(vote) = vote.transpose() {
            begun.reply.answer(vote);
        } else {
            let node = Arc::clone(node);
            tokio::spawn(async move { begun.alone(&node).await });
        }
    }
}
