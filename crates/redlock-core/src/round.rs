//! One vote of all nodes at once: the only place that asks for votes.

use std::{future::poll_fn, mem, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::runtime::{Handle, TryCurrentError};
use tracing::Instrument;

use crate::{
    Proposal, Votes,
    ask::{Ask, Refusal},
    ballot::Ballot,
    clock::{Instant, after, sleep_until, timeout_at},
    quorum::{Outcome, Tally},
};

/// What is asked of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Acquire(Duration, Option<Proposal>),
    Extend(Duration),
    Release,
}

/// The operations under way on all nodes, and the votes so far.
///
/// Dropping it loses nothing: what has not been answered goes on in the background.
pub(crate) struct Round<F: Future<Output = Option<Refusal>> + Send + 'static> {
    ballot: Arc<Ballot>,
    /// Those of them that have to be awaited, if there are any.
    under_way: Option<FuturesUnordered<F>>,
    refusals: Vec<Refusal>,
}

/// Asks all nodes.
pub(crate) fn ask(
    ballot: &Arc<Ballot>,
) -> Round<impl Future<Output = Option<Refusal>> + Send + use<>> {
    // A lock may be dropped outside of its runtime.
    let outside = Handle::try_current().err();
    let may_enter = outside
        .as_ref()
        .is_some_and(TryCurrentError::is_missing_context);
    let _entered = may_enter.then(|| ballot.runtime.enter());
    let may_begin = outside.is_none() || may_enter;
    let mut under_way = None;
    for node in 0..ballot.redlock.0.nodes.len() {
        let ballot = Arc::clone(ballot);
        let ask = Ask { ballot, node };
        let awaited = if may_begin {
            ask.begin().err()
        } else {
            Some(ask)
        };
        if let Some(ask) = awaited {
            let under_way = under_way.get_or_insert_with(FuturesUnordered::new);
            under_way.push(ask.vote());
        }
    }
    Round {
        ballot: Arc::clone(ballot),
        under_way,
        refusals: Vec::new(),
    }
}

impl<F: Future<Output = Option<Refusal>> + Send + 'static> Round<F> {
    /// Takes votes until they are `enough`, all are in, or the deadline has come.
    ///
    /// `each` says whether they may be before an outcome is certain.
    pub(crate) async fn collect(
        &mut self,
        deadline: Instant,
        each: bool,
        enough: impl Fn(&Tally, &Votes) -> bool,
    ) {
        let mut expired = pin!(sleep_until(deadline));
        poll_fn(|context| {
            if let Some(under_way) = &mut self.under_way {
                self.ballot.stop_waiting();
                // All that is ready counts, and every operation is begun before the first one decides.
                while let Poll::Ready(Some(refusal)) = under_way.poll_next_unpin(context) {
                    self.refusals.extend(refusal);
                }
            }
            match self.ballot.poll_votes(context, each, &enough) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => expired.as_mut().poll(context),
            }
        })
        .await;
    }

    /// The outcome; nodes that have not answered by the deadline have failed.
    ///
    /// It is certain early; `at_once` says whether the other votes are of no interest then.
    pub(crate) async fn decide(
        &mut self,
        deadline: Instant,
        at_once: impl Fn(Outcome) -> bool,
    ) -> (Outcome, Votes) {
        let decided = |tally: &Tally| tally.outcome().is_some_and(&at_once);
        self.collect(deadline, false, |tally, _| decided(tally))
            .await;
        self.ballot.close(decided)
    }

    /// After a quorum of true extensions: sets the keys again, in the background, on the nodes that refuse
    /// the extension. These votes never count.
    pub(crate) fn heal(mut self, valid_until: Instant) {
        let mut under_way = self.under_way.take().unwrap_or_default();
        let heal = move |refusal: Refusal| refusal.heal(valid_until);
        let mut healing: FuturesUnordered<_> = mem::take(&mut self.refusals)
            .into_iter()
            .map(heal)
            .collect();
        if under_way.is_empty() && healing.is_empty() {
            return;
        }
        self.ballot.in_background(async move {
            loop {
                tokio::select! {
                    biased;
                    Some(refusal) = under_way.next() => healing.extend(refusal.map(heal)),
                    Some(()) = healing.next() => {}
                    else => break,
                }
            }
        });
    }
}

impl Ballot {
    /// Goes on in the background, for as long as an operation may.
    pub(crate) fn in_background(&self, rest: impl Future<Output = ()> + Send + 'static) {
        let deadline = after(self.started, self.limit);
        let bounded = async move {
            let _ = timeout_at(deadline, rest).await;
        };
        let runtime = Handle::try_current().unwrap_or_else(|_| self.runtime.clone());
        runtime.spawn(bounded.in_current_span());
    }
}

impl<F: Future<Output = Option<Refusal>> + Send + 'static> Drop for Round<F> {
    fn drop(&mut self) {
        self.ballot.stop_waiting();
        self.refusals.drain(..).for_each(Refusal::accept);
        // Only the plain operations move on: a task that held something which spawns when it is
        // dropped would spawn without end while a runtime shuts down.
        let under_way = self.under_way.take();
        if let Some(mut under_way) = under_way.filter(|it| !it.is_empty()) {
            self.ballot.in_background(async move {
                while let Some(refusal) = under_way.next().await {
                    refusal.into_iter().for_each(Refusal::accept);
                }
            });
        }
    }
}
