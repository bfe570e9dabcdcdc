//! Clauses 13 to 16: fencing tokens. A node without them passes.

use std::time::Duration;

use futures_util::future::join_all;
use redlock_core::{
    BackendErrorKind, CLOCK_TOLERANCE, FencingToken, LockValue, NextToken, Proposal, Resources,
    Vote,
};
use tokio::time::sleep;

use super::{LONG, Party, SHORT, Subject, each, names, set, small_and_large};

/// How long a fence is to be remembered of which nothing else is said.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a node says to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Granted,
    Held,
    Wants(FencingToken),
}

impl Party {
    /// Whether the node has what is optional; says so if a test is skipped.
    async fn can_fence(&self) -> bool {
        if self.0.supports_fencing() {
            return true;
        }
        let proposal = Proposal::new(FencingToken::MAX, None);
        let (resources, value) = (set(names::<1>()), LockValue::random());
        let answer = self.0.acquire_fenced(&resources, &value, SHORT, proposal);
        let kind = answer.await.map_err(|error| error.kind());
        assert_eq!(
            kind,
            Err(BackendErrorKind::Unsupported),
            "clause 16: it says that it has no fencing tokens"
        );
        println!("skipped: the node has no fencing tokens");
        false
    }

    async fn propose(&self, resources: &Resources, proposal: Proposal) -> (Said, LockValue) {
        let value = LockValue::random();
        let answer = self.0.acquire_fenced(resources, &value, LONG, proposal);
        let said = match answer.await {
            Ok(Vote::Granted) => Said::Granted,
            Ok(Vote::Refused) => Said::Held,
            Err(error) => {
                let next = error.next_token().map(NextToken::token);
                assert!(
                    !error.may_have_happened(),
                    "clause 13: a token that is refused changes nothing"
                );
                Said::Wants(next.unwrap_or_else(|| panic!("fenced acquire failed: {error}")))
            }
        };
        (said, value)
    }

    /// What it says to this token; what was granted is released.
    async fn say(&self, resources: &Resources, token: FencingToken) -> Said {
        self.say_for(resources, token, DAY).await
    }

    async fn say_for(
        &self,
        resources: &Resources,
        token: FencingToken,
        keep_for: Duration,
    ) -> Said {
        let (said, value) = self
            .propose(resources, Proposal::new(token, Some(keep_for)).again())
            .await;
        if said == Said::Granted {
            let released = self.release(resources, &value).await;
            assert_eq!(released, Vote::Granted, "clause 13: {resources} was ours");
        }
        said
    }

    /// A token that the node wants now.
    async fn wanted(&self, resources: &Resources) -> FencingToken {
        match self.say(resources, FencingToken::new(0)).await {
            Said::Wants(token) => token,
            said => panic!("clause 15: zero is far behind every clock, but was {said:?}"),
        }
    }
}

fn ahead(token: FencingToken, by: Duration) -> FencingToken {
    FencingToken::new(token.get() + u64::try_from(by.as_micros()).expect("a small one"))
}

fn behind(token: FencingToken, by: Duration) -> FencingToken {
    FencingToken::new(token.get() - u64::try_from(by.as_micros()).expect("a small one"))
}

/// Clause 13: a token is granted once, and from then on only greater ones.
///
/// A node without fencing tokens passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn only_a_greater_fencing_token_is_granted(subject: Subject) {
    if !subject.us().can_fence().await {
        return;
    }
    each(small_and_large(), async |resources| {
        let [ours, theirs] = [subject.us(), subject.them()];
        let token = ours.wanted(&resources).await;
        assert_eq!(
            ours.say(&resources, token).await,
            Said::Granted,
            "clause 13: {resources}"
        );
        for stale in [token, behind(token, Duration::from_micros(1))] {
            let said = theirs.say(&resources, stale).await;
            let Said::Wants(next) = said else {
                panic!("clause 13: {stale} after {token} was {said:?}");
            };
            assert!(next > token, "clause 13: {next} is not above {token}");
        }
        assert!(
            theirs.finds_free(&resources).await,
            "clause 13: it holds what it refused"
        );
        let next = theirs.wanted(&resources).await;
        assert_eq!(
            theirs.say(&resources, next).await,
            Said::Granted,
            "clause 13: as wanted"
        );
    })
    .await;
}

/// Clause 13: what is held, by whomever and however, is refused whatever the token, and stays as it is.
///
/// A node without fencing tokens passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn what_is_held_is_refused_whatever_the_fencing_token(subject: Subject) {
    if !subject.us().can_fence().await {
        return;
    }
    each(small_and_large(), async |resources| {
        let [ours, theirs] = [subject.us(), subject.them()];
        let token = ours.wanted(&resources).await;
        let plain = ours.hold(&resources, LONG).await;
        assert_eq!(
            theirs.say(&resources, token).await,
            Said::Held,
            "clause 13: {resources}"
        );
        ours.release(&resources, &plain).await;
        let (said, value) = ours
            .propose(&resources, Proposal::new(token, Some(DAY)).again())
            .await;
        assert_eq!(
            said,
            Said::Granted,
            "clause 13: what is refused raises no fence"
        );
        for again in [
            token,
            ahead(token, Duration::from_secs(1)),
            FencingToken::MAX,
        ] {
            assert_eq!(
                theirs.say(&resources, again).await,
                Said::Held,
                "clause 13: {resources}"
            );
        }
        let vote = theirs.acquire(&resources, &LockValue::random(), LONG).await;
        assert_eq!(vote, Vote::Refused, "clause 13: it is a lock as any other");
        let vote = ours.extend(&resources, &value, LONG).await;
        assert_eq!(vote, Vote::Granted, "clause 13: {resources} is still ours");
        let vote = ours.release(&resources, &value).await;
        assert_eq!(vote, Vote::Granted, "clause 13: {resources} is still ours");
    })
    .await;
}

/// Clause 13: of several resources the token has to be above all the fences, or none is touched.
///
/// A node without fencing tokens passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_fencing_token_is_above_all_fences_or_nothing_is_touched(subject: Subject) {
    if !subject.us().can_fence().await {
        return;
    }
    let names = names::<3>();
    let (all, one, other) = (
        set(names.clone()),
        set([names[1].clone()]),
        set([names[2].clone()]),
    );
    let [ours, theirs] = [subject.us(), subject.them()];
    let token = ours.wanted(&all).await;
    let high = ahead(token, Duration::from_secs(30));
    assert_eq!(
        ours.say(&one, high).await,
        Said::Granted,
        "clause 13: {one}"
    );
    let said = theirs.say(&all, high).await;
    assert!(
        matches!(said, Said::Wants(next) if next > high),
        "clause 13: {said:?} to {high}"
    );
    assert!(theirs.finds_free(&all).await, "clause 13: {all} are free");
    assert_eq!(
        theirs.say(&other, token).await,
        Said::Granted,
        "clause 13: {other} has no fence"
    );
    let higher = ahead(high, Duration::from_micros(1));
    assert_eq!(
        theirs.say(&all, higher).await,
        Said::Granted,
        "clause 13: {all}"
    );
    let said = ours.say(&other, high).await;
    assert!(
        matches!(said, Said::Wants(_)),
        "clause 13: {higher} is the fence of all, {said:?}"
    );
}

/// Clause 14: neither the end of a lock nor locks without a token lower the fence.
///
/// A node without fencing tokens passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_fence_outlives_its_lock(subject: Subject) {
    if !subject.us().can_fence().await {
        return;
    }
    each(small_and_large(), async |resources| {
        let [ours, theirs] = [subject.us(), subject.them()];
        let token = ours.wanted(&resources).await;
        let value = LockValue::random();
        let proposal = Proposal::new(token, None);
        let answer = ours.0.acquire_fenced(&resources, &value, SHORT, proposal);
        assert_eq!(
            answer.await.expect("a vote"),
            Vote::Granted,
            "clause 13: {resources}"
        );
        let still = async |why: &str| {
            let said = theirs.say(&resources, token).await;
            assert!(
                matches!(said, Said::Wants(_)),
                "clause 14: {said:?} when {why}"
            );
        };
        assert!(
            theirs.finds_free_in_time(&resources).await,
            "clause 3: {resources}"
        );
        still("it has expired").await;
        ours.hold(&resources, SHORT).await;
        assert!(
            theirs.finds_free_in_time(&resources).await,
            "clause 3: {resources}"
        );
        still("another lock has expired").await;
    })
    .await;
}

/// Clause 14: a fence is forgotten when it may be, and not before.
///
/// A node without fencing tokens passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_fence_is_forgotten_in_time(subject: Subject) {
    if !subject.us().can_fence().await {
        return;
    }
    each(small_and_large(), async |resources| {
        let party = subject.us();
        let token = party.wanted(&resources).await;
        let high = ahead(token, CLOCK_TOLERANCE / 2);
        let said = party.say_for(&resources, high, LONG).await;
        assert_eq!(said, Said::Granted, "clause 15: {high} is near the clock");
        sleep(SHORT).await;
        let said = party.say(&resources, token).await;
        assert!(
            matches!(said, Said::Wants(_)),
            "clause 14: it was forgotten too soon, {said:?}"
        );

        let high = ahead(high, Duration::from_micros(1));
        assert_eq!(party.say_for(&resources, high, SHORT).await, Said::Granted);
        let start = tokio::time::Instant::now();
        while party.say(&resources, token).await != Said::Granted {
            let lasted = start.elapsed();
            assert!(lasted < super::PATIENCE, "clause 14: it is never forgotten");
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Clause 15: a token far from the node's clock is refused, and one near it is not.
///
/// A node without fencing tokens passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_fencing_token_keeps_to_the_nodes_clock(subject: Subject) {
    if !subject.us().can_fence().await {
        return;
    }
    let minute = Duration::from_secs(60);
    let [near, far] = [CLOCK_TOLERANCE / 5 * 4, CLOCK_TOLERANCE / 5 * 6];
    each(small_and_large(), async |resources| {
        let party = subject.us();
        let now = party.wanted(&resources).await;
        for token in [ahead(now, far), behind(now, far)] {
            let said = party.say(&resources, token).await;
            let Said::Wants(next) = said else {
                panic!("clause 15: {token} is far from {now}, but was {said:?}");
            };
            let off = next.get().abs_diff(now.get());
            assert!(
                u128::from(off) < minute.as_micros(),
                "clause 15: it wants {next} at {now}"
            );
        }
        let (said, _) = party
            .propose(&resources, Proposal::new(ahead(now, near), Some(DAY)))
            .await;
        assert!(
            matches!(said, Said::Wants(_)),
            "clause 15: nobody has asked for a token so far ahead, but it was {said:?}"
        );
        for token in [behind(now, near), now, ahead(now, near)] {
            let said = party.say(&resources, token).await;
            assert_eq!(said, Said::Granted, "clause 15: {token} is near {now}");
        }
    })
    .await;
}

/// Clause 13: of many who propose the same token at once, one is granted.
///
/// A node without fencing tokens passes.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn a_fencing_token_is_granted_once(subject: Subject) {
    if !subject.us().can_fence().await {
        return;
    }
    each(small_and_large(), async |resources| {
        let token = subject.us().wanted(&resources).await;
        let proposed = (0..32).map(|number| {
            let party = [subject.us(), subject.them()][number % 2].clone();
            let resources = resources.clone();
            async move { party.say(&resources, token).await }
        });
        let said = join_all(proposed).await;
        let granted = said.iter().filter(|said| **said == Said::Granted).count();
        assert_eq!(granted, 1, "clause 13: {token} of {resources}");
    })
    .await;
}
