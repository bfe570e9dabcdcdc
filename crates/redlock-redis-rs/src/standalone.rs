//! A server at an address, over one multiplexed connection.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult, aio::MultiplexedConnection,
};
use redlock_core::BackendError;

use crate::{connection::classify, node::Tls, slot::Dial};

pub(crate) struct Standalone {
    info: ConnectionInfo,
    tls: Tls,
    /// Whether the server is too old for RESP3.
    resp2: AtomicBool,
}

impl Standalone {
    /// Checks what can be checked without a connection.
    pub(crate) fn new(info: ConnectionInfo, tls: Tls) -> Result<Self, RedisError> {
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_tcp_settings(tcp);
        tls.open(info.clone())?;
        Ok(Self {
            info,
            tls,
            resp2: AtomicBool::new(false),
        })
    }

    /// RESP3 tells when the server closes an idle connection, before a command is wasted on it.
    async fn resp3(&self, closed: Arc<AtomicBool>) -> RedisResult<MultiplexedConnection> {
        let watch = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                closed.store(true, Ordering::Release);
            }
            Ok::<_, Infallible>(())
        };
        let config = config().set_push_sender(watch);
        self.client(ProtocolVersion::RESP3)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    fn client(&self, protocol: ProtocolVersion) -> RedisResult<Client> {
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        self.tls
            .open(self.info.clone().set_redis_settings(settings))
    }
}

/// Without timeouts of its own: the slot and the node have theirs, and must know when they fire.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

#[async_trait]
impl Dial for Standalone {
    type Connection = MultiplexedConnection;
    const REPLIES_IN_ORDER: bool = true;

    async fn dial(&self, closed: Arc<AtomicBool>) -> Result<MultiplexedConnection, BackendError> {
        if !self.resp2.load(Ordering::Relaxed) {
            match self.resp3(closed).await {
                // The server answers, but not to RESP3.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::RESP3NotSupported | ErrorKind::Server(_)
                    ) => {}
                result => return result.map_err(classify),
            }
        }
        let client = self.client(ProtocolVersion::RESP2).map_err(classify)?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config())
            .await;
        self.resp2.store(connection.is_ok(), Ordering::Relaxed);
        connection.map_err(classify)
    }
}
