//! This library.

use redlock::{FredNode, Lock, LockBackend, MemoryBackend, RedisNode, Redlock};

use super::{Contender, TTL};

pub(super) struct Ours(Redlock);

impl Ours {
    pub(super) fn over_redis_rs(urls: &[String]) -> Self {
        let node = |url: &String| RedisNode::new(url.as_str()).expect("a URL");
        Self::over(urls.iter().map(node))
    }

    pub(super) fn over_fred(urls: &[String]) -> Self {
        let node = |url: &String| FredNode::new(url).expect("a URL");
        Self::over(urls.iter().map(node))
    }

    pub(super) fn in_memory(nodes: usize) -> Self {
        Self::over((0..nodes).map(|_| MemoryBackend::new()))
    }

    /// Patient, with the default delay; who has not got a lock in the time that one lasts has failed.
    fn over<B: LockBackend>(nodes: impl Iterator<Item = B>) -> Self {
        let builder = Redlock::builder(nodes).retry_count(u32::MAX);
        // Thousands at once wait for the machine, as they do with the other contenders.
        let builder = builder.max_wait(TTL).node_timeout(TTL / 2);
        Self(builder.build().expect("distinct nodes"))
    }
}

impl Contender for Ours {
    type Held = Lock;

    async fn acquire(&self, resource: &str) -> Result<Lock, String> {
        let acquired = self.0.acquire(resource, TTL).await;
        acquired.map_err(|error| error.to_string())
    }

    async fn release(&self, held: Lock) -> Result<(), String> {
        held.release().await.map_err(|error| error.to_string())
    }
}
