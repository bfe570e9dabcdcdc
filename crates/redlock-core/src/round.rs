//! One vote of all nodes at once: the only place that asks for votes.

use std::{future::poll_fn, mem, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::runtime::{Handle, TryCurrentError};
use tracing::{Instrument, Span};

use crate::{
    BackendError, Proposal, Vote, Votes,
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
    vote: fn(Ask) -> F,
    /// Those of them that have to be awaited, if there are any.
    under_way: Option<FuturesUnordered<F>>,
    refusals: Vec<Refusal>,
}

/// The round of a ballot, in which nobody has been asked.
pub(crate) fn begin(
    ballot: Arc<Ballot>,
) -> Round<impl Future<Output = Option<Refusal>> + Send + use<>> {
    Round {
        ballot,
        vote: Ask::vote,
        under_way: None,
        refusals: Vec::new(),
    }
}

impl<F: Future<Output = Option<Refusal>> + Send + 'static> Round<F> {
    /// Asks these nodes.
    pub(crate) fn ask(&mut self, nodes: impl Iterator<Item = usize>) {
        // A lock may be dropped outside of its runtime.
        let outside = Handle::try_current().err();
        let may_enter = outside
            .as_ref()
            .is_some_and(TryCurrentError::is_missing_context);
        let _entered = may_enter.then(|| self.ballot.runtime.enter());
        let may_begin = outside.is_none() || may_enter;
        let (asked, span) = (Instant::now(), Span::current());
        for node in nodes {
            let ballot = Arc::clone(&self.ballot);
            let ask = Ask {
                ballot,
                node,
                asked,
                has_ended: false,
                span: span.clone(),
            };
            let awaited = if may_begin {
                ask.begin(&self.ballot).err()
            } else {
                Some(ask)
            };
            if let Some(ask) = awaited {
                let under_way = self.under_way.get_or_insert_with(FuturesUnordered::new);
                under_way.push((self.vote)(ask));
            }
        }
    }

    /// Asks those nodes that were not asked first.
    pub(crate) fn ask_others(&mut self, first: usize) {
        let nodes = 0..self.ballot.redlock.0.nodes.len();
        let others = nodes.filter(|node| *node != first);
        others.clone().for_each(|node| self.ballot.reopen(node));
        self.ask(others);
    }

    /// Waits for this node alone, and says what it has answered.
    pub(crate) async fn answer(
        &mut self,
        node: usize,
        deadline: Instant,
    ) -> Option<Result<Vote, BackendError>> {
        let answered = |votes: &Votes| votes.answer(node).is_some();
        self.collect(deadline, true, |_, votes| answered(votes))
            .await;
        self.ballot.answer(node)
    }

    /// The votes of a round that goes no further.
    pub(crate) fn into_votes(self) -> Votes {
        self.ballot.take_votes()
    }

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
        self.runtime.spawn(bounded.in_current_span());
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
