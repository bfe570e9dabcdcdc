//! Fencing tokens: one number for each acquisition, which only rises, so that a resource can refuse who is
//! late.

use std::{
    cmp::Reverse,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    InvalidRequest, NodeVote, Vote, Votes, clock::unix_micros, quorum::quorum, validity::MAX_TTL,
};

#[expect(
    clippy::disallowed_types,
    reason = "nodes judge a token by their own clocks, not by ours"
)]
type SystemTime = std::time::SystemTime;

/// How far from a node's own clock a token may be.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How far ahead of a node's own clock a token may be that nobody has asked for: so that a client whose clock is
/// ahead is told, and does not have the proposals of others refused.
const LEAD: Duration = Duration::from_secs(1);

/// For how long a node that may have forgotten its fences stays out of fenced acquisitions: twice the
/// tolerance, once for the token it has forgotten and once for the next one, and once more because the
/// clocks of a server and of the replica that takes its place may differ.
pub const FORGETFUL: Duration = CLOCK_TOLERANCE.saturating_mul(3);

/// The shortest lifetime of a fence; it has to be longer than twice the tolerance.
const SHORTEST: Duration = Duration::from_secs(60 * 60);

/// By how much a token may exceed the fence whatever the node's clock says.
const STEP: u64 = 1000;

/// How far above what a node's clock forbids a token is that is proposed again, as it goes on.
const SLACK: u64 = 1_000_000;

/// How often a token is proposed within one attempt.
pub(crate) const PROPOSALS: u32 = 3;

/// The number of one acquisition: of two acquisitions of a resource, the later one has the greater.
///
/// Give it to whatever the lock protects, with every access; see the [guide on
/// guarantees](https://docs.rs/redlock-tokio/latest/redlock/guide/guarantees/). It is a number of
/// microseconds since 1970, more or less, and below 2⁵³, so that every language and database can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The greatest: 2⁵³ − 1, to which scripts on a node count exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The token that is this number; a greater one than [`MAX`](Self::MAX) becomes that.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        if number < Self::MAX.0 {
            Self(number)
        } else {
            Self::MAX
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    const fn next(self) -> Self {
        Self::new(self.0 + 1)
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> Self {
        token.0
    }
}

impl From<FencingToken> for i64 {
    /// For databases, whose integers have a sign.
    fn from(token: FencingToken) -> Self {
        token.0.cast_signed()
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A token that is proposed to a node, and for how long the node has to remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    token: FencingToken,
    keep_for: Option<Duration>,
    again: bool,
}

/// The token that a node would accept, and why that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextToken {
    /// Its clock says so.
    Clock(FencingToken),
    /// A fence says so, which is ahead of its clock.
    Fence(FencingToken),
}

impl NextToken {
    /// The token.
    #[must_use]
    pub const fn token(self) -> FencingToken {
        match self {
            Self::Clock(token) | Self::Fence(token) => token,
        }
    }
}

impl Proposal {
    /// Proposes a token that is to be remembered for so long, or for ever.
    #[must_use]
    pub const fn new(token: FencingToken, keep_for: Option<Duration>) -> Self {
        Self {
            token,
            keep_for,
            again: false,
        }
    }

    /// The same, to be remembered for so long, or for ever.
    #[must_use]
    pub const fn kept_for(mut self, keep_for: Option<Duration>) -> Self {
        self.keep_for = keep_for;
        self
    }

    /// Says that it is what nodes have asked for, so that it may be further ahead of a node's clock.
    #[must_use]
    pub const fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// The token.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.token
    }

    /// For how long the node remembers it as the fence of the resources; `None` for ever.
    #[must_use]
    pub const fn keep_for(&self) -> Option<Duration> {
        self.keep_for
    }

    /// How far ahead of a node's clock it may be: one second, or [`CLOCK_TOLERANCE`] if it is what nodes have asked
    /// for.
    #[must_use]
    pub const fn lead(&self) -> Duration {
        if self.again { CLOCK_TOLERANCE } else { LEAD }
    }

    /// Whether a node may accept the token for resources that are free.
    ///
    /// `fences` are those of the resources that have one, and `now` is the node's own clock in microseconds
    /// since 1970.
    ///
    /// # Errors
    ///
    /// The token that the node would accept.
    pub fn admit(
        &self,
        fences: impl IntoIterator<Item = FencingToken>,
        now: u64,
    ) -> Result<(), NextToken> {
        let tolerance = micros(CLOCK_TOLERANCE);
        // A fence that was forgotten because its time was over is below this, and so is one that was lost in a
        // restart, when the probation is over.
        let forgotten = now.saturating_sub(tolerance + 1);
        let fences = fences.into_iter().map(FencingToken::get);
        let floor = fences.fold(forgotten, u64::max);
        // A client whose clock is far ahead must not take the tokens of years to come.
        let ceiling = now.saturating_add(micros(self.lead()));
        let ceiling = ceiling.max(floor.saturating_add(STEP));
        if floor < self.token.0 && self.token.0 <= ceiling {
            Ok(())
        } else if floor < now {
            Err(NextToken::Clock(FencingToken::new(now)))
        } else {
            Err(NextToken::Fence(FencingToken::new(floor).next()))
        }
    }
}

/// Settings of fencing tokens; see [`RedlockBuilder::fencing`](crate::RedlockBuilder::fencing).
#[derive(Clone)]
#[must_use]
pub struct Fencing {
    keep_for: Option<Duration>,
    clock: Option<Clock>,
}

type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

impl Fencing {
    /// The defaults.
    #[expect(clippy::new_without_default, reason = "a settings object is asked for")]
    pub const fn new() -> Self {
        Self {
            keep_for: Some(Duration::from_secs(24 * 60 * 60)),
            clock: None,
        }
    }

    /// For how long nodes remember the token of an acquisition, at least one hour. Default: one day.
    ///
    /// About a hundred bytes for every resource that was locked meanwhile. It has to be longer than any clock of a
    /// server may be set back.
    pub const fn keep_for(mut self, lifetime: Duration) -> Self {
        self.keep_for = Some(lifetime);
        self
    }

    /// Nodes never forget the token of an acquisition: one key more for every resource that was ever locked.
    pub const fn keep_forever(mut self) -> Self {
        self.keep_for = None;
        self
    }

    /// Where the proposals come from. Default: the system's clock.
    ///
    /// The tokens are right whatever this clock says: one that is further ahead of those of the nodes than one
    /// second, or further behind than five minutes, costs an additional round, once.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidRequest> {
        match self.keep_for {
            Some(lifetime) if !(SHORTEST..=MAX_TTL).contains(&lifetime) => {
                Err(InvalidRequest::FenceLifetime(lifetime))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Fencing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fencing")
            .field("keep_for", &self.keep_for)
            .finish_non_exhaustive()
    }
}

/// Makes proposals.
pub(crate) struct Proposer {
    fencing: Fencing,
    /// By how many microseconds the tokens of the nodes are ahead of our clock, as far as it matters.
    offset: AtomicI64,
    /// The last token proposed: a clock may stand still meanwhile.
    last: AtomicU64,
}

impl Proposer {
    pub(crate) const fn new(fencing: Fencing) -> Self {
        Self {
            fencing,
            offset: AtomicI64::new(0),
            last: AtomicU64::new(0),
        }
    }

    pub(crate) fn propose(&self) -> Proposal {
        let offset = self.offset.load(Ordering::Relaxed);
        let now = self.clock().saturating_add_signed(offset);
        let token = self.last.load(Ordering::Relaxed).saturating_add(1).max(now);
        self.last.store(token, Ordering::Relaxed);
        self.proposal(FencingToken::new(token))
    }

    /// What to propose instead, if the nodes that refused a proposal for its token could grant another one.
    pub(crate) fn propose_again(&self, refused: Proposal, votes: &Votes) -> Option<Proposal> {
        let next = better(refused.token, votes)?;
        let token = next.token();
        if let NextToken::Clock(_) = next {
            // So that the next attempt need not be refused first. One fence says nothing about the others.
            let ahead = token.0.cast_signed() - self.clock().cast_signed();
            self.offset.store(ahead, Ordering::Relaxed);
            self.last.store(token.0, Ordering::Relaxed);
        }
        Some(self.proposal(token).again())
    }

    const fn proposal(&self, token: FencingToken) -> Proposal {
        Proposal::new(token, self.fencing.keep_for)
    }

    fn clock(&self) -> u64 {
        match &self.fencing.clock {
            None => unix_micros(),
            Some(clock) => {
                let now = clock().duration_since(SystemTime::UNIX_EPOCH);
                micros(now.unwrap_or_default())
            }
        }
    }
}

/// The smallest token that a quorum of nodes would accept, as far as is known.
///
/// A node that refuses for other reasons than the token, or fails, accepts none; one that wants a token may accept
/// those that are not much greater. Where a minority is far ahead, whether by its clock or by its fence, the
/// others do not follow.
fn better(refused: FencingToken, votes: &Votes) -> Option<NextToken> {
    let reach = micros(CLOCK_TOLERANCE);
    // What each would accept, from one token to another, and which it names.
    let accepts = |vote: NodeVote<'_>| match vote.answer()? {
        Ok(Vote::Granted) => {
            let next = NextToken::Fence(refused.next());
            Some((next.token().0, next))
        }
        Ok(Vote::Refused) => None,
        Err(error) => {
            let next = error.next_token()?;
            let from = match next {
                // Also what is behind its clock, unless the fence is what it was refused for.
                NextToken::Clock(now) => {
                    let behind = now.0.saturating_sub(reach) + SLACK;
                    now.0.min(behind.max(refused.next().0))
                }
                NextToken::Fence(token) => token.0,
            };
            Some((from, next))
        }
    };
    let accepts: Vec<_> = votes.iter().filter_map(accepts).collect();
    if accepts.len() == votes.granted() {
        return None;
    }
    let tokens = accepts
        .iter()
        .flat_map(|(from, next)| [NextToken::Clock(FencingToken(*from)), *next]);
    let count = |next: NextToken, surely: bool| {
        let token = next.token().0;
        let accepting = accepts.iter().filter(|(from, next)| {
            let named = next.token().0;
            (if surely { named } else { *from }..=named + reach).contains(&token)
        });
        accepting.count()
    };
    let (quorum, pending) = (quorum(votes.nodes()), votes.pending().count());
    // The smallest, as a fence that is ahead of the clocks stands in the way for long.
    let named = accepts.iter().map(|(_, next)| *next);
    let certain = named
        .filter(|next| count(*next, true) >= quorum)
        .min_by_key(|next| next.token());
    certain.or_else(|| {
        let most = tokens.max_by_key(|next| (count(*next, false), Reverse(next.token())));
        most.filter(|next| count(*next, false) + pending >= quorum)
    })
}

/// In microseconds, below 2⁵³.
pub(crate) fn micros(duration: Duration) -> u64 {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    micros.min(FencingToken::MAX.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::BackendError;

    const NOW: u64 = 1_000_000_000_000_000;
    const TOLERANCE: u64 = 300_000_000;

    fn admit(token: u64, fences: &[u64]) -> Result<(), u64> {
        let proposal = Proposal::new(FencingToken::new(token), None).again();
        let fences = fences.iter().copied().map(FencingToken::new);
        let admitted = proposal.admit(fences, NOW);
        admitted.map_err(|next| next.token().get())
    }

    #[test]
    fn a_token_has_to_be_above_every_fence() {
        assert_eq!(admit(NOW, &[NOW - 1]), Ok(()));
        assert_eq!(admit(NOW, &[NOW]), Err(NOW + 1));
        assert_eq!(admit(NOW, &[5, NOW]), Err(NOW + 1));
    }

    #[test]
    fn a_token_keeps_to_the_clock_whether_or_not_there_is_a_fence() {
        for fences in [&[][..], &[3], &[3, NOW - TOLERANCE - 1]] {
            assert_eq!(admit(NOW - TOLERANCE, fences), Ok(()));
            assert_eq!(admit(NOW - TOLERANCE - 1, fences), Err(NOW));
            assert_eq!(admit(NOW + TOLERANCE, fences), Ok(()));
            assert_eq!(admit(NOW + TOLERANCE + 1, fences), Err(NOW));
        }
    }

    #[test]
    fn a_token_far_ahead_is_admitted_only_just_above_the_fence() {
        let ahead = NOW + 10 * TOLERANCE;
        assert_eq!(admit(ahead + STEP, &[ahead]), Ok(()));
        assert_eq!(admit(ahead + STEP + 1, &[ahead]), Err(ahead + 1));
    }

    #[test]
    fn a_fence_that_was_forgotten_is_below_whatever_is_admitted_afterwards() {
        let lifetime = micros(SHORTEST);
        let highest = NOW + TOLERANCE;
        let proposal = Proposal::new(FencingToken::new(highest), None);
        let refused = proposal.admit([], NOW + lifetime);
        assert!(
            refused.is_err(),
            "the highest token admitted when the fence was set"
        );
        assert!(micros(FORGETFUL) > 2 * TOLERANCE);
    }

    proptest! {
        #[test]
        fn what_is_wanted_instead_is_admitted(
            token in 0..2 * NOW, fences in proptest::collection::vec(any::<u32>(), 0..4),
        ) {
            let fences: Vec<_> = fences.into_iter().map(|ahead| NOW + u64::from(ahead)).collect();
            match admit(token, &fences) {
                Ok(()) => {}
                Err(next) => prop_assert_eq!(admit(next, &fences), Ok(())),
            }
        }
    }

    const PROPOSED: FencingToken = FencingToken(100);

    fn wants(next: u64) -> Result<Vote, BackendError> {
        Err(BackendError::token_refused(NextToken::Clock(FencingToken(
            next,
        ))))
    }

    fn better_than_proposed<const N: usize>(
        answers: [Option<Result<Vote, BackendError>>; N],
    ) -> Option<u64> {
        let names = (0..N).map(|node| node.to_string().into());
        let mut votes = Votes::new(&Arc::new(names.collect()));
        for (node, answer) in answers.into_iter().enumerate() {
            if let Some(answer) = answer {
                votes.cast(node, answer, Duration::ZERO);
            }
        }
        better(PROPOSED, &votes).map(|next| next.token().get())
    }

    #[test]
    fn a_quorum_admits_what_is_proposed_instead_and_a_minority_that_is_far_ahead_does_not_count() {
        let granted = || Some(Ok(Vote::Granted));
        let answers = [Some(wants(150)), Some(wants(120)), Some(wants(900))];
        assert_eq!(better_than_proposed(answers), Some(150));
        let answers = [granted(), Some(wants(120)), Some(wants(900))];
        assert_eq!(better_than_proposed(answers), Some(120));
        let answers = [granted(), Some(wants(50)), Some(wants(60)), None, None];
        assert_eq!(better_than_proposed(answers), Some(101));
        let (behind, ahead) = (Some(wants(50)), Some(wants(TOLERANCE + 200)));
        assert_eq!(
            better_than_proposed([
                granted(),
                behind,
                ahead,
                Some(wants(1_000_000 * TOLERANCE)),
                None
            ]),
            Some(200 + SLACK),
            "what a clock that is ahead still admits, and all but one besides"
        );
        let answers = [Some(wants(150)), Some(wants(120)), None, None];
        assert_eq!(
            better_than_proposed(answers),
            Some(150),
            "of four, two forbid"
        );
    }

    #[test]
    fn nothing_is_proposed_where_the_token_is_not_what_stands_in_the_way() {
        let held = || Some(Ok(Vote::Refused));
        let down = || Some(Err(BackendError::timeout()));
        assert_eq!(
            better_than_proposed([held(), held(), Some(wants(120))]),
            None
        );
        assert_eq!(
            better_than_proposed([held(), down(), Some(wants(120))]),
            None
        );
        assert_eq!(better_than_proposed([down(), down(), down()]), None);
        assert_eq!(
            better_than_proposed([held(), Some(wants(5)), Some(wants(120))]),
            Some(120)
        );
        let years = 1_000_000 * TOLERANCE;
        let answers = [held(), Some(Ok(Vote::Granted)), Some(wants(years))];
        assert_eq!(better_than_proposed(answers), None);
        let answers = [
            Some(Ok(Vote::Granted)),
            Some(wants(TOLERANCE + 200)),
            down(),
        ];
        assert_eq!(
            better_than_proposed(answers),
            Some(200 + SLACK),
            "the clock of who granted need not be ahead of the token"
        );
        let answers = [Some(wants(5)), Some(wants(years)), Some(wants(years))];
        assert_eq!(better_than_proposed(answers), Some(years));
    }
}
