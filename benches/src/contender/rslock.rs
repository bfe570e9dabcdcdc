//! The crate `rslock`, patient, with its default delay.

use std::time::Duration;

use rslock::{Lock, LockManager};

use super::{Contender, TTL};

pub(super) struct Rslock(LockManager);

impl Rslock {
    pub(super) fn connect(urls: &[String]) -> Self {
        let urls = urls.iter().map(String::as_str).collect();
        let mut manager = LockManager::new(urls);
        manager.set_retry(u32::MAX, Duration::from_millis(200));
        Self(manager)
    }
}

impl Contender for Rslock {
    type Held = Lock;

    async fn acquire(&self, resource: &str) -> Result<Lock, String> {
        let acquired = self.0.lock(resource, TTL).await;
        acquired.map_err(|error| error.to_string())
    }

    async fn release(&self, held: Lock) -> Result<(), String> {
        // It does not say what it found.
        held.release().await;
        Ok(())
    }
}
