//! What a node must be able to do: the implementer's surface.

use std::{borrow::Cow, error, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Holder, LockValue, NextToken, Place, Proposal, Reply, Resources, Wake};

/// Reaches one independent node and asks it for its vote.
///
/// # Contract
///
/// 1. **Acquire grants what is free.** `acquire` sets every resource to `value` for `ttl` and answers
///    [`Granted`](Vote::Granted).
/// 2. **Acquire takes all or none.** If any of the resources is held, by anyone, this `value`
///    included, it changes nothing and answers [`Refused`](Vote::Refused). This is atomic.
/// 3. **A lease ends by itself.** `ttl` after the node took it, by the node's own clock and not before, a
///    resource is free again. A clock that ticks rounds up, as [`whole_millis`] does.
/// 4. **Release frees only what carries the value.** It frees those of the resources that carry
///    `value`, leaves the others alone, and answers `Granted` if all of them carried it. What has expired
///    carries nothing.
/// 5. **Extend needs all.** If all resources carry `value`, `extend` restarts their ttl and answers
///    `Granted`; otherwise it changes nothing and answers `Refused`. This is atomic.
/// 6. **Extend never revives.** A missing resource is never set by `extend`.
/// 7. **Extend never shortens.** A resource whose remaining ttl is longer keeps it.
/// 8. **An error means unknown.** `Err` says that the operation may or may not have happened, now or
///    later, unless [`BackendError::not_executed`] was said of it.
/// 9. **Nothing is sent twice.** A backend never repeats an `acquire` whose outcome it does not know.
/// 10. **Dropping is allowed.** Any future may be dropped at any await point; the backend stays usable
///     and the outcome is unknown as in 8.
/// 11. **Order is kept where the driver can.** A `release` that starts after an `acquire` of the same
///     value ended with an error, or was dropped, is not overtaken by that `acquire`. Several connections,
///     or a task of its own for each operation, do not keep the order by themselves.
/// 12. **Inspect tells who holds.** `inspect` answers which value the resource carries and for how long
///     still, or that it is free; what has expired holds nothing. It only reads: nothing is taken, freed,
///     prolonged or shortened by it. It is optional: a backend that cannot do it answers an error of the kind
///     [`Unsupported`](BackendErrorKind::Unsupported), always, as the default does.
///
/// 13. **A fenced acquire raises the fence.** `acquire_fenced` does as `acquire`, also where a resource is
///     held, and stores the proposed token as the *fence* of every resource in the same step. It does so only
///     for a token above all their fences, and otherwise changes nothing and answers
///     [`token_refused`](BackendError::token_refused) with one that it would accept.
/// 14. **A fence outlives its lock.** Nothing lowers it: no release, no expiry of the lock, no other acquire.
///     It is forgotten after [`keep_for`](Proposal::keep_for), counted from the last token stored.
/// 15. **A token keeps to the node's clock.** A token is refused as well that is further behind the node's own
///     clock than [`CLOCK_TOLERANCE`](crate::CLOCK_TOLERANCE), or further ahead of it than the proposal's
///     [`lead`](Proposal::lead), unless it is just above the fence: [`Proposal::admit`] is the rule.
/// 16. **Fencing is all or nothing.** A backend that [`supports_fencing`](Self::supports_fencing) does all of
///     this; `acquire_fenced` of one that does not answers an error of the kind
///     [`Unsupported`](BackendErrorKind::Unsupported), always, as the default does.
///
/// 17. **Waiting ends when there is something to try.** `wait` ends at once where all the resources are free,
///     and otherwise when they may be: one of them was released, or its lease has ended. A release gives the turn
///     to one of those that wait, in the order in which they came. It may end for nothing.
/// 18. **Who stops waiting is in nobody's way.** A `wait` that was dropped is not given a turn for which others
///     would wait. It may be dropped at any await point.
/// 19. **Waiting is a hint.** No vote depends on it, and a turn that is not taken within [`TURN`](crate::TURN) is
///     anybody's. It is optional: a backend that cannot do it answers an error of the kind
///     [`Unsupported`](BackendErrorKind::Unsupported), always, as the default does.
///
/// Every operation but `wait` needs a bound on its own time, but none that is exact: [`Redlock`](crate::Redlock)
/// gives up waiting for a vote after its node timeout and drops what never ends.
///
/// `Debug` and [`name`](Self::name) must not show credentials.
///
/// [`whole_millis`]: crate::validity::whole_millis
///
/// ```
/// use std::time::Duration;
/// use async_trait::async_trait;
/// use redlock_core::{BackendError, LockBackend, LockValue, Resources, Vote};
///
/// /// A node that never grants anything.
/// #[derive(Debug)]
/// struct Stubborn;
///
/// #[async_trait]
/// impl LockBackend for Stubborn {
///     async fn acquire(&self, _: &Resources, _: &LockValue, _: Duration) -> Result<Vote, BackendError> {
///         Ok(Vote::Refused)
///     }
///     async fn release(&self, _: &Resources, _: &LockValue) -> Result<Vote, BackendError> {
///         Ok(Vote::Refused)
///     }
///     async fn extend(&self, _: &Resources, _: &LockValue, _: Duration) -> Result<Vote, BackendError> {
///         Ok(Vote::Refused)
///     }
/// }
/// ```
#[async_trait]
pub trait LockBackend: fmt::Debug + Send + Sync + 'static {
    /// Sets every resource to `value` for `ttl`, or none of them if any is held.
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError>;

    /// Frees those resources that still carry `value`. `Granted` if all of them did.
    async fn release(&self, resources: &Resources, value: &LockValue)
    -> Result<Vote, BackendError>;

    /// Releases what an attempt has taken that failed: as [`release`](Self::release), but nobody who
    /// [waits](Self::wait) is told, for the resources are another's, or the attempt is made again.
    ///
    /// The default releases.
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    async fn undo(&self, resources: &Resources, value: &LockValue) -> Result<Vote, BackendError> {
        self.release(resources, value).await
    }

    /// Restarts the ttl of every resource if all of them carry `value`; otherwise changes nothing.
    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError>;

    /// Who holds a resource now; `None` if it is free.
    ///
    /// Optional: the default answers an error of the kind [`Unsupported`](BackendErrorKind::Unsupported).
    /// No lock depends on it; see [`Redlock::inspect`](crate::Redlock::inspect).
    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        let _ = resource;
        let cause = "the backend cannot tell who holds a resource";
        Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed())
    }

    /// As [`acquire`](Self::acquire), for a token that is above the fence of every resource, which it becomes.
    ///
    /// Optional: the default answers an error of the kind [`Unsupported`](BackendErrorKind::Unsupported).
    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let _ = (resources, value, ttl, proposal);
        let cause = "the backend has no fencing tokens";
        Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed())
    }

    /// Whether [`acquire_fenced`](Self::acquire_fenced) is implemented. A server may forbid it all the same.
    fn supports_fencing(&self) -> bool {
        false
    }

    /// Waits, in line with others, until these resources may be free on this node.
    ///
    /// Optional: the default answers an error of the kind [`Unsupported`](BackendErrorKind::Unsupported), upon
    /// which [`Redlock`](crate::Redlock) tries again from time to time, as its settings say.
    async fn wait(&self, resources: &Resources, place: Place) -> Result<Wake, BackendError> {
        let _ = (resources, place);
        let cause = "the backend cannot wait for a release";
        Err(BackendError::new(BackendErrorKind::Unsupported, cause).not_executed())
    }

    /// Whether a release of ours has given the turn to somebody who waits for these resources, less than
    /// [`TURN`](crate::TURN) ago, as far as this backend was told. Who comes now waits behind them.
    fn is_awaited(&self, resources: &Resources) -> bool {
        let _ = resources;
        false
    }

    /// The longest ttl for which this node may be asked, if there is one: a node that was forgetful counts again
    /// when so much time has passed.
    fn max_ttl(&self) -> Option<Duration> {
        None
    }

    /// Where the node is, for people, without credentials: it names the node in every vote.
    ///
    /// Two backends of one [`Redlock`](crate::Redlock) with the same name are refused as the same
    /// node. `None`, the default, has the nodes numbered.
    fn name(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Whether this node can lock these resources together at all, told without asking it.
    ///
    /// Called before anything is sent to any node; for example, a Redis Cluster cannot lock resources
    /// atomically that live in different slots.
    ///
    /// # Errors
    ///
    /// A text that says why not, for the user.
    fn check(&self, resources: &Resources) -> Result<(), String> {
        let _ = resources;
        Ok(())
    }

    /// Begins an [`acquire`](Self::acquire) that nobody awaits: it goes on by itself, as the contract says, and its
    /// answer goes to `reply` in bounded time. A backend that has to connect first may give the reply back.
    ///
    /// Optional, and called on a tokio runtime: it spares what a future costs for every vote. A wrapper that leaves
    /// it out has everything awaited, also where the backend inside could begin.
    ///
    /// # Errors
    ///
    /// The reply, unless the operation has begun: the default. It is awaited then instead.
    fn begin_acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        reply: Reply,
    ) -> Result<(), Reply> {
        let _ = (resources, value, ttl);
        Err(reply)
    }

    /// Begins a [`release`](Self::release), as [`begin_acquire`](Self::begin_acquire) does an acquire.
    ///
    /// # Errors
    ///
    /// As [`begin_acquire`](Self::begin_acquire).
    fn begin_release(
        &self,
        resources: &Resources,
        value: &LockValue,
        reply: Reply,
    ) -> Result<(), Reply> {
        let _ = (resources, value);
        Err(reply)
    }
}

/// Implements [`LockBackend`](crate::LockBackend) for a type by another backend inside it, whole.
///
/// The crate that uses it needs `async-trait`.
///
/// ```
/// use redlock_core::{LockBackend, MemoryBackend};
///
/// #[derive(Debug)]
/// struct Named<B>(String, B);
///
/// redlock_core::forward_backend!([B: LockBackend] Named<B>, |named| named.1);
/// # Named("a".to_owned(), MemoryBackend::new()).name();
/// ```
#[macro_export]
macro_rules! forward_backend {
    ([$($generics:tt)*] $type:ty, |$this:ident| $inner:expr) => {
        #[deny(clippy::missing_trait_methods)]
        #[::async_trait::async_trait]
        impl<$($generics)*> $crate::LockBackend for $type {
            async fn acquire(
                &self,
                resources: &$crate::Resources,
                value: &$crate::LockValue,
                ttl: ::std::time::Duration,
            ) -> ::std::result::Result<$crate::Vote, $crate::BackendError> {
                let $this = self;
                $inner.acquire(resources, value, ttl).await
            }

            async fn release(
                &self,
                resources: &$crate::Resources,
                value: &$crate::LockValue,
            ) -> ::std::result::Result<$crate::Vote, $crate::BackendError> {
                let $this = self;
                $inner.release(resources, value).await
            }

            async fn undo(
                &self,
                resources: &$crate::Resources,
                value: &$crate::LockValue,
            ) -> ::std::result::Result<$crate::Vote, $crate::BackendError> {
                let $this = self;
                $inner.undo(resources, value).await
            }

            async fn extend(
                &self,
                resources: &$crate::Resources,
                value: &$crate::LockValue,
                ttl: ::std::time::Duration,
            ) -> ::std::result::Result<$crate::Vote, $crate::BackendError> {
                let $this = self;
                $inner.extend(resources, value, ttl).await
            }

            async fn inspect(
                &self,
                resource: &str,
            ) -> ::std::result::Result<
                ::std::option::Option<$crate::Holder>,
                $crate::BackendError,
            > {
                let $this = self;
                $inner.inspect(resource).await
            }

            async fn acquire_fenced(
                &self,
                resources: &$crate::Resources,
                value: &$crate::LockValue,
                ttl: ::std::time::Duration,
                proposal: $crate::Proposal,
            ) -> ::std::result::Result<$crate::Vote, $crate::BackendError> {
                let $this = self;
                $inner.acquire_fenced(resources, value, ttl, proposal).await
            }

            fn supports_fencing(&self) -> bool {
                let $this = self;
                $inner.supports_fencing()
            }

            async fn wait(
                &self,
                resources: &$crate::Resources,
                place: $crate::Place,
            ) -> ::std::result::Result<$crate::Wake, $crate::BackendError> {
                let $this = self;
                $inner.wait(resources, place).await
            }

            fn is_awaited(&self, resources: &$crate::Resources) -> bool {
                let $this = self;
                $inner.is_awaited(resources)
            }

            fn max_ttl(&self) -> ::std::option::Option<::std::time::Duration> {
                let $this = self;
                $inner.max_ttl()
            }

            fn name(&self) -> ::std::option::Option<::std::borrow::Cow<'_, str>> {
                let $this = self;
                $inner.name()
            }

            fn check(
                &self,
                resources: &$crate::Resources,
            ) -> ::std::result::Result<(), ::std::string::String> {
                let $this = self;
                $inner.check(resources)
            }

            fn begin_acquire(
                &self,
                resources: &$crate::Resources,
                value: &$crate::LockValue,
                ttl: ::std::time::Duration,
                reply: $crate::Reply,
            ) -> ::std::result::Result<(), $crate::Reply> {
                let $this = self;
                $inner.begin_acquire(resources, value, ttl, reply)
            }

            fn begin_release(
                &self,
                resources: &$crate::Resources,
                value: &$crate::LockValue,
                reply: $crate::Reply,
            ) -> ::std::result::Result<(), $crate::Reply> {
                let $this = self;
                $inner.begin_release(resources, value, reply)
            }
        }
    };
}

forward_backend!([B: LockBackend + ?Sized] Arc<B>, |this| (**this));

/// A node's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vote {
    /// The node did it.
    Granted,
    /// The node says no: a resource is held by another, or does not carry the value.
    Refused,
}

impl Vote {
    /// [`Granted`](Self::Granted) if `yes`.
    #[must_use]
    pub const fn granted_if(yes: bool) -> Self {
        if yes { Self::Granted } else { Self::Refused }
    }
}

/// A node gave no usable answer: what was asked of it may or may not have happened.
#[derive(Clone, Debug)]
pub struct BackendError {
    kind: BackendErrorKind,
    may_have_happened: bool,
    next_token: Option<NextToken>,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

/// Why a node gave no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Unreachable,
    /// The server answered with an error, or with something that is no answer, or the backend itself broke.
    Server,
    /// The node or its backend cannot do this at all, or does not permit it.
    Unsupported,
    /// The resources are free, but the fencing token that was proposed is not above their fences, or too far
    /// from the node's clock.
    TokenRefused,
}

impl BackendError {
    /// An error of this kind with its cause.
    pub fn new(
        kind: BackendErrorKind,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            may_have_happened: true,
            next_token: None,
            source: Some(source.into().into()),
        }
    }

    /// No answer in time.
    #[must_use]
    pub const fn timeout() -> Self {
        Self {
            kind: BackendErrorKind::Timeout,
            may_have_happened: true,
            next_token: None,
            source: None,
        }
    }

    /// The fencing token was refused; the node would accept `next`. Nothing was executed.
    #[must_use]
    pub const fn token_refused(next: NextToken) -> Self {
        Self {
            kind: BackendErrorKind::TokenRefused,
            may_have_happened: false,
            next_token: Some(next),
            source: None,
        }
    }

    /// Says that what was asked has not happened and never will: nothing was sent, or the server itself
    /// answered that it did not do it.
    #[must_use]
    pub fn not_executed(mut self) -> Self {
        self.may_have_happened = false;
        self
    }

    /// Says that what was asked may have happened all the same, now or later; the opposite of
    /// [`not_executed`](Self::not_executed).
    #[must_use]
    pub fn perhaps_executed(mut self) -> Self {
        self.may_have_happened = true;
        self
    }

    /// Why the node gave no usable answer.
    #[must_use]
    pub const fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// The cause.
    #[must_use]
    pub fn get_ref(&self) -> Option<&(dyn error::Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// The fencing token that the node would accept, of an error of the kind
    /// [`TokenRefused`](BackendErrorKind::TokenRefused).
    #[must_use]
    pub const fn next_token(&self) -> Option<NextToken> {
        self.next_token
    }

    /// Whether what was asked may have happened all the same, now or later.
    #[must_use]
    pub const fn may_have_happened(&self) -> bool {
        self.may_have_happened
    }

    /// Whether it is what a server says that has done nothing.
    pub(crate) const fn is_refusal(&self) -> bool {
        let said = matches!(
            self.kind,
            BackendErrorKind::Server | BackendErrorKind::Unsupported
        );
        said && !self.may_have_happened
    }
}

impl fmt::Display for BackendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "timed out",
            Self::Unreachable => "unreachable",
            Self::Server => "server error",
            Self::Unsupported => "unsupported",
            Self::TokenRefused => "fencing token refused",
        })
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, self.next_token) {
            (Some(source), _) => write!(f, "{}: {source}", self.kind),
            (None, Some(next)) => write!(f, "{}: {} would do", self.kind, next.token()),
            (None, None) => self.kind.fmt(f),
        }
    }
}

impl error::Error for BackendError {
    /// What is behind the cause, as `Display` shows the cause itself.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().and_then(|source| source.source())
    }
}
