//! Those in this process who wait for the same resources: one at a time talks to the nodes, and listens to them.

use std::{
    collections::{HashMap, HashSet},
    iter,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sha1_smol::Sha1;
use tokio::sync::{Mutex as FairMutex, Notify, OwnedMutexGuard};

use crate::{
    BackendError, BackendErrorKind, Place, Redlock, Resources, Vote, Votes, Wake,
    caught::caught,
    claim::Whom,
    clock::{Instant, after, sleep_until},
    retry::{backoff, jittered},
};

/// The first and the longest pause after a hint of which nothing came.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// After how many delays those behind a head try without it.
const PATIENCE: u32 = 8;

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// The queues of one process, by what is waited for.
#[derive(Default)]
pub(crate) struct Queues {
    table: Mutex<HashMap<Resources, Arc<Queue>>>,
    count: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    /// Whoever has it is the head.
    head: Arc<FairMutex<()>>,
    /// A lock of this process was given back.
    released: Notify,
    /// Whether the nodes tell the head when to try.
    told: AtomicBool,
}

impl Queues {
    fn has(&self, resources: &Resources) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.table().contains_key(resources)
    }

    /// Wakes the head of those who wait for these resources, if it has nobody else to tell it.
    pub(crate) fn released(&self, resources: &Resources) {
        if self.count.load(Ordering::Acquire) > 0
            && let Some(queue) = self.table().get(resources)
        {
            queue.released.notify_one();
        }
    }

    fn join(&self, resources: &Resources) -> Arc<Queue> {
        let mut table = self.table();
        let queue = Arc::clone(table.entry(resources.clone()).or_default());
        self.count.store(table.len(), Ordering::Release);
        queue
    }

    fn leave(&self, resources: &Resources, queue: Arc<Queue>) {
        let mut table = self.table();
        drop(queue);
        if table
            .get(resources)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            table.remove(resources);
        }
        self.count.store(table.len(), Ordering::Release);
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Resources, Arc<Queue>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who wants these resources, and waits for them from the first [`wake`](Self::wake) on.
pub(crate) struct Waiter<'a> {
    redlock: &'a Redlock,
    resources: &'a Resources,
    queue: Option<Arc<Queue>>,
    lining_up: Option<Future<OwnedMutexGuard<()>>>,
    head: Option<OwnedMutexGuard<()>>,
    /// Which nodes to wait at, the first that can.
    nodes: Vec<usize>,
    /// The node that all who want these resources ask first: the first of them that answers.
    first: Option<usize>,
    /// The node that is waited at, and what it will say.
    hint: Option<(usize, Future<Result<Wake, BackendError>>)>,
    place: Place,
    /// The nodes that cannot tell, now or ever.
    failed: HashSet<usize>,
    unsupported: HashSet<usize>,
    pauses: Box<dyn Iterator<Item = Duration> + Send + Sync>,
    /// How long to leave the others alone; from the start where a release of ours has given one of them the turn.
    pause: Option<Duration>,
    /// How many have passed.
    delays: u32,
}

impl<'a> Waiter<'a> {
    pub(crate) fn new(redlock: &'a Redlock, resources: &'a Resources) -> Self {
        let mut nodes = redlock.0.nodes.iter();
        let awaited = nodes.any(|node| node.backend.is_awaited(resources));
        Self {
            redlock,
            resources,
            queue: None,
            lining_up: None,
            head: None,
            nodes: Vec::new(),
            first: None,
            hint: None,
            place: Place::Last,
            failed: HashSet::new(),
            unsupported: HashSet::new(),
            pauses: Box::new(iter::empty()),
            // Whom we have just given the turn may take it without us in the way.
            pause: awaited.then_some(PAUSES.0),
            delays: 0,
        }
    }

    /// Whether others have waited longer, so that it would be unfair to try at once.
    pub(crate) fn is_behind_others(&self) -> bool {
        self.pause.is_some() || self.redlock.0.queues.has(self.resources)
    }

    /// Waits until there is reason to try; `None` when the time is up.
    pub(crate) async fn wake(&mut self, until: Instant) -> Option<Wake> {
        if !self.come_to_the_head(until).await {
            return None;
        }
        if let Some(pause) = self.pause.take() {
            sleep_until(until.min(after(Instant::now(), pause))).await;
        }
        while Instant::now() < until {
            let Some(node) = self.listen() else {
                let queue = self.queue.as_ref().expect("it has lined up");
                queue.told.store(false, Ordering::Relaxed);
                return tokio::select! {
                    biased;
                    () = queue.released.notified() => Some(Wake::Free),
                    () = sleep_until(until) => None,
                };
            };
            let (_, hint) = self.hint.as_mut().expect("it listens");
            let said = tokio::select! {
                biased;
                said = hint => said,
                () = sleep_until(until) => return None,
            };
            self.hint = None;
            match said {
                // Others may have been given theirs at the node that all ask first.
                Ok(Wake::Turn) if self.moves_from(node) => self.place = Place::First,
                Ok(wake) => {
                    self.place = match wake {
                        Wake::Turn => Place::First,
                        Wake::Free => self.place,
                    };
                    return Some(wake);
                }
                Err(error) if error.kind() == BackendErrorKind::Unsupported => {
                    self.unsupported.insert(node);
                }
                Err(_) => {
                    self.failed.insert(node);
                }
            }
        }
        None
    }

    /// Whether to try when the time is up: the head does, and so does everybody where nobody is told when to.
    ///
    /// Now and then everybody does in any case: a head that nobody polls is told, and does nothing.
    pub(crate) fn polls(&mut self) -> bool {
        let told = |queue: &Arc<Queue>| queue.told.load(Ordering::Relaxed);
        self.delays += 1;
        self.head.is_some()
            || !self.queue.as_ref().is_some_and(told)
            || self.delays.is_multiple_of(PATIENCE)
    }

    /// Whom to ask now. One node first where others may try as well, so that their votes do not split.
    pub(crate) fn whom(&self, wake: Wake) -> Whom {
        match wake {
            _ if self.redlock.0.nodes.len() == 1 => Whom::All,
            Wake::Turn => Whom::All,
            Wake::Free => self
                .first
                .or_else(|| self.node())
                .map_or(Whom::All, Whom::First),
        }
    }

    /// What the nodes said to an attempt that failed: those that refuse are those that can say when they will not.
    pub(crate) fn learn(&mut self, votes: Option<&Votes>, by_hint: bool) {
        let Some(votes) = votes else { return };
        let refused = |node: &usize| matches!(votes.answer(*node), Some(Ok(Vote::Refused)));
        let ranking = ranking(self.redlock, self.resources);
        let mut answers = ranking
            .iter()
            .filter(|node| matches!(votes.answer(**node), Some(Ok(_))));
        self.first = answers.next().copied().or(self.first);
        self.nodes = ranking.into_iter().filter(refused).collect();
        if self
            .hint
            .as_ref()
            .is_some_and(|(node, _)| !self.nodes.contains(node))
        {
            self.hint = None;
        }
        self.pause = by_hint.then(|| self.pauses.next()).flatten();
    }

    /// The next delay begins.
    pub(crate) fn begin(&mut self) {
        self.failed.clear();
        self.pauses = Box::new(
            backoff(PAUSES.0, PAUSES.1).map(|pause| jittered(pause, pause / 2, rand::random())),
        );
    }

    /// Stands in no line until the next [`wake`](Self::wake).
    pub(crate) fn step_back(&mut self) {
        self.hint = None;
        self.lining_up = None;
        let was_head = self.head.take().is_some();
        if let Some(queue) = self.queue.take() {
            if was_head {
                queue.told.store(false, Ordering::Relaxed);
            }
            self.redlock.0.queues.leave(self.resources, queue);
        }
    }

    async fn come_to_the_head(&mut self, until: Instant) -> bool {
        if self.head.is_some() {
            return true;
        }
        let queues = &self.redlock.0.queues;
        let queue = self
            .queue
            .get_or_insert_with(|| queues.join(self.resources));
        let lining_up = self
            .lining_up
            .get_or_insert_with(|| Box::pin(Arc::clone(&queue.head).lock_owned()));
        // Not without end within no time, where there is no delay between attempts.
        let until = until.max(after(Instant::now(), PAUSES.0));
        tokio::select! {
            biased;
            head = lining_up => {
                self.head = Some(head);
                self.lining_up = None;
                true
            }
            () = sleep_until(until) => false,
        }
    }

    /// Begins to wait at a node, unless it does already; `None` if no node can tell.
    fn listen(&mut self) -> Option<usize> {
        if let Some((node, _)) = &self.hint {
            return Some(*node);
        }
        if self.nodes.is_empty() {
            let (mut awaited, mut others) = (ranking(self.redlock, self.resources), Vec::new());
            let backend = |node: usize| &self.redlock.0.nodes[node].backend;
            awaited.retain(|node| {
                let awaited = backend(*node).is_awaited(self.resources);
                if !awaited {
                    others.push(*node);
                }
                awaited
            });
            self.nodes = [awaited, others].concat();
        }
        let node = self.candidate()?;
        let backend = Arc::clone(&self.redlock.0.nodes[node].backend);
        let (resources, place) = (self.resources.clone(), self.place);
        let wait = async move { caught(backend.wait(&resources, place)).await };
        self.hint = Some((node, Box::pin(wait)));
        let queue = self.queue.as_ref().expect("it has lined up");
        queue.told.store(true, Ordering::Relaxed);
        Some(node)
    }

    /// Whether to wait at the node that all ask first rather than at this one; if so, that is next.
    fn moves_from(&mut self, node: usize) -> bool {
        let Some(first) = self
            .first
            .filter(|first| *first != node && self.can(*first))
        else {
            return false;
        };
        self.nodes.retain(|node| *node != first);
        self.nodes.insert(0, first);
        true
    }

    /// The node to wait at.
    pub(crate) fn node(&self) -> Option<usize> {
        self.hint
            .as_ref()
            .map(|(node, _)| *node)
            .or_else(|| self.candidate())
    }

    fn candidate(&self) -> Option<usize> {
        let mut nodes = self.nodes.iter().copied();
        nodes.find(|node| self.can(*node))
    }

    /// Whether the node can tell, as far as is known.
    fn can(&self, node: usize) -> bool {
        !self.failed.contains(&node) && !self.unsupported.contains(&node)
    }
}

/// The nodes in an order that is the same for all who want these resources.
pub(crate) fn ranking(redlock: &Redlock, resources: &Resources) -> Vec<usize> {
    let nodes = &redlock.0.nodes;
    let mut ranking: Vec<usize> = (0..nodes.len()).collect();
    ranking.sort_by_cached_key(|node| {
        let mut hash = Sha1::from(&*nodes[*node].name);
        for name in resources.iter() {
            hash.update(b"\n");
            hash.update(name.as_bytes());
        }
        hash.digest().bytes()
    });
    ranking
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.step_back();
    }
}
