//! The naive fan-out over fred.

use fred::{
    clients::Client,
    interfaces::{ClientLike, KeysInterface, LuaInterface},
    types::{Builder, Expiration, SetOptions, config::Config},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use redlock::LockValue;

use super::{Contender, NO_QUORUM, RELEASE, TTL, quorum};

pub(super) struct ReferenceFred {
    nodes: Vec<Client>,
    release: String,
}

impl ReferenceFred {
    pub(super) async fn connect(urls: &[String]) -> Self {
        let (mut nodes, mut release) = (Vec::new(), String::new());
        for url in urls {
            let config = Config::from_url(url).expect("a URL");
            let node = Builder::from_config(config).build().expect("settings");
            node.init().await.expect("the server is up");
            release = node.script_load(RELEASE).await.expect("it compiles");
            nodes.push(node);
        }
        Self { nodes, release }
    }

    /// Asks all at once, until a quorum has granted.
    async fn ask<'a, F: Future<Output = bool>>(
        &'a self,
        ask: impl Fn(&'a Client) -> F,
    ) -> Result<(), String> {
        let mut answers: FuturesUnordered<_> = self.nodes.iter().map(ask).collect();
        let mut missing = quorum(self.nodes.len());
        while let Some(granted) = answers.next().await {
            missing -= usize::from(granted);
            if missing == 0 {
                return Ok(());
            }
        }
        Err(NO_QUORUM.to_owned())
    }
}

impl Contender for ReferenceFred {
    type Held = (String, LockValue);

    async fn acquire(&self, resource: &str) -> Result<Self::Held, String> {
        let value = LockValue::random();
        let asked = self.ask(|node| {
            let expiry = Expiration::PX(TTL.as_millis().try_into().expect("short"));
            let (expiry, only) = (Some(expiry), Some(SetOptions::NX));
            let set =
                node.set::<Option<String>, _, _>(resource, value.as_str(), expiry, only, false);
            async { matches!(set.await, Ok(Some(_))) }
        });
        asked.await?;
        Ok((resource.to_owned(), value))
    }

    async fn release(&self, (resource, value): Self::Held) -> Result<(), String> {
        let asked = self.ask(|node| {
            let (sha, key, value) = (&*self.release, &*resource, value.as_str());
            let deleted = node.evalsha::<i64, _, _, _>(sha, key, value);
            async { matches!(deleted.await, Ok(1)) }
        });
        asked.await
    }
}
