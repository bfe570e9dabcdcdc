//! A node whose clock runs at another rate.

use std::{borrow::Cow, time::Duration};

use async_trait::async_trait;
use redlock_core::{
    BackendError, Holder, LockBackend, LockValue, Place, Proposal, Reply, Resources, Vote, Wake,
};

/// Wraps a backend so that the node's clock runs at another rate than the client's.
///
/// The rate is how many seconds the node counts while the client counts one: at 1.1 the clock is fast by
/// 10 % and a lease of 10 s ends after 10 s / 1.1 ≈ 9.091 s, at 0.5 it ends after 20 s.
///
/// The node is asked for `ttl / rate`, so its own clock must run as the client's does: that of
/// [`MemoryBackend`](redlock_core::MemoryBackend) does, paused or not, and that of a server on this
/// machine. `ttl / rate` is rounded to a nanosecond, or to 16 digits where those are fewer, and the
/// backend rounds it as any ttl: on Redis up to whole milliseconds. What exceeds [`Duration::MAX`] becomes
/// that.
///
/// An inspection tells the remaining time as the node counts it.
///
/// A [`Redlock`](redlock_core::Redlock) whose drift factor is `f` bears every rate up to `1 / (1 − f)`.
///
/// Only the rate is another; a clock that jumps is something else.
#[derive(Clone, Debug)]
pub struct Skewed<B> {
    inner: B,
    rate: f64,
}

impl<B: LockBackend> Skewed<B> {
    /// A node whose clock runs at this rate.
    ///
    /// # Panics
    ///
    /// If the rate is not a finite number above zero.
    pub fn new(inner: B, rate: f64) -> Self {
        assert!(
            rate.is_finite() && rate > 0.0,
            "a clock cannot run at a rate of {rate}"
        );
        Self { inner, rate }
    }

    /// The backend behind.
    #[must_use]
    pub const fn inner(&self) -> &B {
        &self.inner
    }

    /// How long a lease of this ttl lasts for the client.
    fn lasting(&self, ttl: Duration) -> Duration {
        Duration::try_from_secs_f64(ttl.as_secs_f64() / self.rate).unwrap_or(Duration::MAX)
    }

    /// How much of its own time the node counts meanwhile.
    fn counting(&self, time: Duration) -> Duration {
        Duration::try_from_secs_f64(time.as_secs_f64() * self.rate).unwrap_or(Duration::MAX)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<B: LockBackend> LockBackend for Skewed<B> {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.inner
            .acquire(resources, value, self.lasting(ttl))
            .await
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let keep_for = proposal.keep_for().map(|lifetime| self.lasting(lifetime));
        let proposal = proposal.kept_for(keep_for);
        self.inner
            .acquire_fenced(resources, value, self.lasting(ttl), proposal)
            .await
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
        self.inner.release(resources, value).await
    }

    async fn undo(&self, resources: &Resources, value: &LockValue) -> Result<Vote, BackendError> {
        self.inner.undo(resources, value).await
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.inner.extend(resources, value, self.lasting(ttl)).await
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        let mut holder = self.inner.inspect(resource).await?;
        if let Some(holder) = &mut holder {
            holder.remaining = holder.remaining.map(|it| self.counting(it));
        }
        Ok(holder)
    }

    async fn wait(&self, resources: &Resources, place: Place) -> Result<Wake, BackendError> {
        self.inner.wait(resources, place).await
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

    fn begin_acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        reply: Reply,
    ) -> Result<(), Reply> {
        let ttl = self.lasting(ttl);
        self.inner.begin_acquire(resources, value, ttl, reply)
    }

    fn begin_release(
        &self,
        resources: &Resources,
        value: &LockValue,
        reply: Reply,
    ) -> Result<(), Reply> {
        self.inner.begin_release(resources, value, reply)
    }
}
