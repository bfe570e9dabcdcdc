//! A connection beside the votes', on which the server tells whose turn it is.
//!
//! fred's replies to `SUBSCRIBE` are of a kind of their own, and no vote may come behind one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use fred::{
    clients::Client,
    interfaces::{EventInterface, PubsubInterface},
};
use redlock_core::{
    BackendError, BackendErrorKind, Place, Resources, Wake,
    redis::{Ear, RedisBackend, Stand, Waiters},
};
use tokio::{sync::broadcast::error::RecvError, time::timeout};

use crate::{line::Line, link::Up, sender::Sender};

/// Those in this process who wait at a server.
pub(crate) struct Waiting {
    pub(crate) waiters: Arc<Waiters>,
    key_prefix: String,
    ear: Arc<dyn Ear>,
}

impl Waiting {
    /// Over connections of this line, which speak RESP3.
    pub(crate) fn new(line: Arc<Line>, key_prefix: &str, connect_timeout: Duration) -> Self {
        let waiters = Waiters::new();
        let hearing = Hearing {
            line,
            waiters: Arc::clone(&waiters),
            key_prefix: key_prefix.to_owned(),
            patience: connect_timeout,
        };
        Self {
            waiters,
            key_prefix: key_prefix.to_owned(),
            ear: Arc::new(hearing),
        }
    }

    pub(crate) async fn wait(
        &self,
        resources: &Resources,
        place: Place,
    ) -> Result<Wake, BackendError> {
        let Self {
            waiters,
            key_prefix,
            ear,
        } = self;
        waiters.wait(ear, key_prefix, resources, place).await
    }
}

struct Hearing {
    line: Arc<Line>,
    waiters: Arc<Waiters>,
    key_prefix: String,
    /// How long subscribing may take.
    patience: Duration,
}

impl Hearing {
    fn server(&self, client: &Client) -> RedisBackend<Sender> {
        RedisBackend::new(Sender::only(&self.line, client)).key_prefix(&self.key_prefix)
    }

    async fn listen(&self, client: &Client) -> Result<(), BackendError> {
        let mut messages = client.message_rx();
        let waiters = Arc::clone(&self.waiters);
        let subscribed = client.subscribe(waiters.channel());
        match timeout(self.patience, subscribed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(BackendError::new(BackendErrorKind::Server, error)),
            Err(_) => return Err(BackendError::timeout()),
        }
        tokio::spawn(async move {
            loop {
                match messages.recv().await {
                    Ok(message) => waiters.told(message.value.as_bytes().unwrap_or_default()),
                    Err(RecvError::Lagged(_)) => waiters.interrupted(),
                    Err(RecvError::Closed) => break,
                }
            }
            waiters.interrupted();
        });
        Ok(())
    }
}

#[async_trait]
impl Ear for Hearing {
    async fn stand_in_line(
        &self,
        resources: &Resources,
        waiter: &str,
        place: Place,
    ) -> Result<Stand, BackendError> {
        let Up {
            client, listens, ..
        } = self.line.link.client().await?;
        listens.get_or_try_init(|| self.listen(&client)).await?;
        let server = self.server(&client);
        server.stand_in_line(resources, waiter, place).await
    }

    async fn leave_line(&self, resources: &Resources, waiter: &str) {
        if let Ok(Up { client, .. }) = self.line.link.client().await {
            let _ = self.server(&client).leave_line(resources, waiter).await;
        }
    }
}
