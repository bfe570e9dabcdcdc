//! A node whose votes are begun wherever they can be.

use std::{borrow::Cow, time::Duration};

use async_trait::async_trait;
use redlock::{BackendError, Holder, LockBackend, LockValue, Proposal, Reply, Resources, Vote};

/// Another backend, whose acquires and releases are begun rather than awaited, where it can do so.
#[derive(Debug)]
pub struct Begun<B>(pub B);

#[async_trait]
impl<B: LockBackend> LockBackend for Begun<B> {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let (reply, answer) = Reply::new();
        match self.0.begin_acquire(resources, value, ttl, reply) {
            Ok(()) => answer.await,
            Err(_) => self.0.acquire(resources, value, ttl).await,
        }
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        let (reply, answer) = Reply::new();
        match self.0.begin_release(resources, value, reply) {
            Ok(()) => answer.await,
            Err(_) => self.0.release(resources, value).await,
        }
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        self.0.extend(resources, value, ttl).await
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        self.0.inspect(resource).await
    }

    async fn acquire_fenced(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
        proposal: Proposal,
    ) -> Result<Vote, BackendError> {
        let asked = self.0.acquire_fenced(resources, value, ttl, proposal);
        asked.await
    }

    fn supports_fencing(&self) -> bool {
        self.0.supports_fencing()
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        self.0.name()
    }

    fn check(&self, resources: &Resources) -> Result<(), String> {
        self.0.check(resources)
    }
}
