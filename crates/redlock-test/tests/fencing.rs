//! Nodes whose fencing tokens are broken are found out by the clause that says so.

mod common;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use common::{Clause, assert_each_is_rejected};
use redlock_core::{
    BackendError, CLOCK_TOLERANCE, FencingToken, Instant, LockBackend, LockValue, MemoryBackend,
    NextToken, Proposal, Resources, Vote,
};
use redlock_test::conformance::Subject;

/// What is wrong with a node's fencing tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    GrantsTheSameAgain,
    GrantsWhatever,
    FencesOnlyOneOfSeveral,
    LooksAtOnlyOneOfSeveral,
    RaisesWhatItRefuses,
    RaisesWhatIsHeld,
    TakesWhatIsHeld,
    TakesNothing,
    HoldsWhatItRefuses,
    ForgetsWithTheLease,
    ForgetsWithAnotherLock,
    ForgetsTooSoon,
    NeverForgets,
    HasNoClock,
    BelievesAnyFuture,
    BelievesAnyPast,
    BelievesWhatNobodyAskedFor,
    WantsTheImpossible,
    OnlySaysThatItCan,
    CanButDoesNotSay,
    LooksBeforeItLeaps,
}

const ALL: [Wrong; 21] = [
    Wrong::GrantsTheSameAgain,
    Wrong::GrantsWhatever,
    Wrong::FencesOnlyOneOfSeveral,
    Wrong::LooksAtOnlyOneOfSeveral,
    Wrong::RaisesWhatItRefuses,
    Wrong::RaisesWhatIsHeld,
    Wrong::TakesWhatIsHeld,
    Wrong::TakesNothing,
    Wrong::HoldsWhatItRefuses,
    Wrong::ForgetsWithTheLease,
    Wrong::ForgetsWithAnotherLock,
    Wrong::ForgetsTooSoon,
    Wrong::NeverForgets,
    Wrong::HasNoClock,
    Wrong::BelievesAnyFuture,
    Wrong::BelievesAnyPast,
    Wrong::BelievesWhatNobodyAskedFor,
    Wrong::WantsTheImpossible,
    Wrong::OnlySaysThatItCan,
    Wrong::CanButDoesNotSay,
    Wrong::LooksBeforeItLeaps,
];

/// A node in memory with fences of its own.
#[derive(Clone, Debug)]
struct Broken {
    wrong: Option<Wrong>,
    locks: MemoryBackend,
    fences: Arc<Mutex<HashMap<String, (u64, Instant)>>>,
    start: Instant,
}

impl Broken {
    fn subject(wrong: Option<Wrong>) -> Subject {
        Subject::new(Self {
            wrong,
            locks: MemoryBackend::new(),
            fences: Arc::default(),
            start: Instant::now(),
        })
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    fn now(&self) -> u64 {
        1_000_000_000_000_000 + u64::try_from(self.start.elapsed().as_micros()).unwrap()
    }

    fn fences(&self, resources: &Resources) -> Vec<FencingToken> {
        let fences = self.fences.lock().unwrap();
        let looked_at = match self.wrong {
            Some(Wrong::LooksAtOnlyOneOfSeveral) => 1,
            _ => resources.len(),
        };
        let live = |name: &String| {
            fences
                .get(name)
                .filter(|(_, until)| Instant::now() < *until)
        };
        resources
            .iter()
            .take(looked_at)
            .filter_map(|name| live(name).map(|(token, _)| FencingToken::new(*token)))
            .collect()
    }

    fn admit(&self, resources: &Resources, proposal: Proposal) -> Result<(), NextToken> {
        let (fences, now) = (self.fences(resources), self.now());
        let token = proposal.token().get();
        let highest = fences.iter().max().map(|token| token.get());
        let tolerance = u64::try_from(CLOCK_TOLERANCE.as_micros()).unwrap();
        let past = token < now - tolerance;
        let future = token > now + tolerance;
        let admitted = match self.wrong {
            Some(Wrong::GrantsWhatever) => token > 0,
            Some(Wrong::GrantsTheSameAgain) if highest == Some(token) => true,
            Some(Wrong::HasNoClock) => token > highest.unwrap_or(0),
            Some(Wrong::BelievesAnyFuture) if future && token < 1 << 51 => true,
            Some(Wrong::BelievesAnyPast) if past && token > 0 => token > highest.unwrap_or(0),
            Some(Wrong::BelievesWhatNobodyAskedFor) => {
                return proposal.again().admit(fences, now);
            }
            _ => return proposal.admit(fences, now),
        };
        if admitted {
            Ok(())
        } else {
            let next = FencingToken::new(now.max(highest.unwrap_or(0) + 1));
            Err(NextToken::Clock(next))
        }
    }

    fn raise(&self, resources: &Resources, proposal: Proposal) {
        let lifetime = proposal.keep_for().unwrap_or(Duration::from_secs(1 << 30));
        let lifetime = match self.wrong {
            Some(Wrong::ForgetsTooSoon) => lifetime / 1000,
            Some(Wrong::NeverForgets) => Duration::from_secs(1 << 30),
            Some(Wrong::ForgetsWithTheLease) => Duration::from_millis(1300),
            _ => lifetime,
        };
        let raised = match self.wrong {
            Some(Wrong::FencesOnlyOneOfSeveral) => 1,
            _ => resources.len(),
        };
        let fence = (proposal.token().get(), Instant::now() + lifetime);
        let names = resources.iter().take(raised).cloned();
        self.fences
            .lock()
            .unwrap()
            .extend(names.map(|name| (name, fence)));
    }
}

#[async_trait]
impl LockBackend for Broken {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        if self.is(Wrong::ForgetsWithAnotherLock) {
            self.fences
                .lock()
                .unwrap()
                .retain(|name, _| !resources.contains(name));
        }
        self.locks.acquire(resources, value, ttl).await
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        if self.is(Wrong::OnlySaysThatItCan) {
            return self.acquire(resources, value, ttl).await;
        }
        if self.is(Wrong::RaisesWhatItRefuses) {
            self.raise(resources, proposal);
        }
        if self.is(Wrong::TakesWhatIsHeld) && proposal.token() < FencingToken::MAX {
            for name in resources.iter() {
                if let Some(holder) = self.locks.holder(name) {
                    self.locks.release(resources, &holder).await?;
                }
            }
        }
        let free = resources
            .iter()
            .all(|name| self.locks.holder(name).is_none());
        if !free {
            if self.is(Wrong::RaisesWhatIsHeld) {
                self.raise(resources, proposal);
            }
            return Ok(Vote::Refused);
        }
        let admitted = self.admit(resources, proposal);
        if self.is(Wrong::LooksBeforeItLeaps) {
            tokio::task::yield_now().await;
        }
        if self.is(Wrong::HoldsWhatItRefuses) || admitted.is_ok() && !self.is(Wrong::TakesNothing) {
            self.locks.acquire(resources, value, ttl).await?;
        }
        admitted.map_err(|next| {
            let next = match self.wrong {
                Some(Wrong::WantsTheImpossible) => NextToken::Fence(proposal.token()),
                _ => next,
            };
            BackendError::token_refused(next)
        })?;
        self.raise(resources, proposal);
        Ok(Vote::Granted)
    }

    fn supports_fencing(&self) -> bool {
        !self.is(Wrong::CanButDoesNotSay)
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        self.locks.release(resources, value).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.locks.extend(resources, value, ttl).await
    }
}

/// The clause that must find out what is wrong.
fn clause_against(wrong: Wrong) -> Clause {
    match wrong {
        Wrong::GrantsTheSameAgain
        | Wrong::GrantsWhatever
        | Wrong::HoldsWhatItRefuses
        | Wrong::WantsTheImpossible
        | Wrong::TakesNothing
        | Wrong::OnlySaysThatItCan
        | Wrong::CanButDoesNotSay => clause!(only_a_greater_fencing_token_is_granted),
        Wrong::FencesOnlyOneOfSeveral
        | Wrong::LooksAtOnlyOneOfSeveral
        | Wrong::RaisesWhatItRefuses => {
            clause!(a_fencing_token_is_above_all_fences_or_nothing_is_touched)
        }
        Wrong::RaisesWhatIsHeld | Wrong::TakesWhatIsHeld => {
            clause!(what_is_held_is_refused_whatever_the_fencing_token)
        }
        Wrong::ForgetsWithTheLease | Wrong::ForgetsWithAnotherLock => {
            clause!(a_fence_outlives_its_lock)
        }
        Wrong::ForgetsTooSoon | Wrong::NeverForgets => clause!(a_fence_is_forgotten_in_time),
        Wrong::HasNoClock
        | Wrong::BelievesAnyFuture
        | Wrong::BelievesAnyPast
        | Wrong::BelievesWhatNobodyAskedFor => {
            clause!(a_fencing_token_keeps_to_the_nodes_clock)
        }
        Wrong::LooksBeforeItLeaps => clause!(a_fencing_token_is_granted_once),
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_fencing_is_broken_is_rejected_by_the_clause_that_says_so() {
    assert_each_is_rejected(&ALL, clause_against, Broken::subject).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_fencing_tokens_passes() {
    #[derive(Debug)]
    struct Plain(MemoryBackend);

    #[async_trait]
    impl LockBackend for Plain {
        async fn acquire(
            &self,
            resources: &Resources,
            value: &LockValue,
            ttl: Duration,
        ) -> Result<Vote, BackendError> {
            self.0.acquire(resources, value, ttl).await
        }

        async fn release(
            &self,
            resources: &Resources,
            value: &LockValue,
        ) -> Result<Vote, BackendError> {
            self.0.release(resources, value).await
        }

        async fn extend(
            &self,
            resources: &Resources,
            value: &LockValue,
            ttl: Duration,
        ) -> Result<Vote, BackendError> {
            self.0.extend(resources, value, ttl).await
        }
    }

    for wrong in ALL {
        let (_, clause) = clause_against(wrong);
        clause(Subject::new(Plain(MemoryBackend::new()))).await;
    }
}
