//! The naive fan-out: what anybody would write first, directly on the redis crate's multiplexed connection.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{AsyncConnectionConfig, Client, Cmd, Value, aio::MultiplexedConnection, cmd};
use redlock::LockValue;

use super::{Contender, NO_QUORUM, RELEASE, TTL, quorum};

/// So many commands may wait to be written, so that a task does not wait for another one's.
const BUFFER: usize = 32_768;

pub(super) struct Reference {
    nodes: Vec<MultiplexedConnection>,
    release: String,
}

impl Reference {
    pub(super) async fn connect(urls: &[String]) -> Self {
        let (mut nodes, mut release) = (Vec::new(), String::new());
        for url in urls {
            // Without the response timeout it is faster.
            let config = AsyncConnectionConfig::new()
                .set_pipeline_buffer_size(BUFFER)
                .set_response_timeout(None);
            let client = Client::open(url.as_str()).expect("a URL");
            let connected = client.get_multiplexed_async_connection_with_config(&config);
            let mut node = connected.await.expect("the server is up");
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(RELEASE);
            release = load.query_async(&mut node).await.expect("it compiles");
            nodes.push(node);
        }
        Self { nodes, release }
    }

    /// Asks all at once, until a quorum has given this answer.
    async fn ask(&self, command: Cmd, wanted: &Value) -> Result<(), String> {
        let command = Arc::new(command);
        let ask = |node: &MultiplexedConnection| {
            let (mut node, command) = (node.clone(), Arc::clone(&command));
            async move { command.query_async::<Value>(&mut node).await }
        };
        let mut answers: FuturesUnordered<_> = self.nodes.iter().map(ask).collect();
        let mut missing = quorum(self.nodes.len());
        while let Some(answer) = answers.next().await {
            missing -= usize::from(answer.is_ok_and(|answer| answer == *wanted));
            if missing == 0 {
                // The crate does not send what is dropped early, and a node that misses a release refuses its
                // resource from then on.
                tokio::spawn(async move { while answers.next().await.is_some() {} });
                return Ok(());
            }
        }
        Err(NO_QUORUM.to_owned())
    }
}

impl Contender for Reference {
    type Held = (String, LockValue);

    async fn acquire(&self, resource: &str) -> Result<Self::Held, String> {
        let value = LockValue::random();
        let mut set = cmd("SET");
        set.arg(resource).arg(value.as_str()).arg("NX").arg("PX");
        set.arg(TTL.as_secs() * 1000);
        self.ask(set, &Value::Okay).await?;
        Ok((resource.to_owned(), value))
    }

    async fn release(&self, (resource, value): Self::Held) -> Result<(), String> {
        let mut release = cmd("EVALSHA");
        release.arg(&self.release).arg(1);
        release.arg(resource).arg(value.as_str());
        self.ask(release, &Value::Int(1)).await
    }
}
