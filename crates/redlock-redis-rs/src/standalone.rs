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
    AsyncConnectionConfig, ConnectionInfo, ErrorKind, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult, Value, aio::MultiplexedConnection,
};
use redlock_core::{BackendError, redis::Waiters};

use crate::{
    connection::classify,
    node::Tls,
    pipe::Pipe,
    slot::{Dial, Dialled},
};

pub(crate) struct Standalone {
    info: ConnectionInfo,
    tls: Tls,
    waiters: Arc<Waiters>,
}

impl Standalone {
    /// Checks what can be checked without a connection.
    pub(crate) fn new(
        info: ConnectionInfo,
        tls: Tls,
        waiters: Arc<Waiters>,
    ) -> Result<Self, RedisError> {
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_tcp_settings(tcp);
        tls.open(info.clone())?;
        Ok(Self { info, tls, waiters })
    }

    async fn connect(
        &self,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        let client = self
            .tls
            .open(self.info.clone().set_redis_settings(settings))?;
        // Without timeouts of its own: slot and line have theirs, and must know when they fire.
        let config = config
            .set_connection_timeout(None)
            .set_response_timeout(None);
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// Takes what the server says unasked.
///
/// The task that reads the connection owns it, and may end with its runtime without a word: then it is dropped.
struct Pushes {
    closed: Arc<AtomicBool>,
    waiters: Arc<Waiters>,
}

impl Pushes {
    fn end(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.waiters.interrupted();
    }

    fn take(&self, push: &PushInfo) {
        match (&push.kind, &push.data[..]) {
            (PushKind::Disconnection, _) => self.end(),
            (PushKind::Message, [.., Value::BulkString(message)]) => self.waiters.told(message),
            (PushKind::Invalidate, [Value::Array(keys)]) => {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        self.waiters.changed(Some(key));
                    }
                }
            }
            (PushKind::Invalidate, _) => self.waiters.changed(None),
            _ => {}
        }
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl Dial for Standalone {
    type Connection = Pipe;

    /// RESP3 tells when the server closes an idle connection, before a command is wasted on it. Servers
    /// and proxies refuse it in various ways, so that RESP2 is tried whenever it fails.
    async fn dial(&self) -> Result<Dialled<Pipe>, BackendError> {
        let closed = Arc::new(AtomicBool::new(false));
        let pushes = Pushes {
            closed: Arc::clone(&closed),
            waiters: Arc::clone(&self.waiters),
        };
        let watch = move |push: PushInfo| {
            pushes.take(&push);
            Ok::<_, Infallible>(())
        };
        let config = AsyncConnectionConfig::new().set_push_sender(watch);
        match self.connect(ProtocolVersion::RESP3, config).await {
            Ok(connection) => {
                let mut dialled = piped(connection, closed);
                dialled.standing.waiters = Some(Arc::clone(&self.waiters));
                return Ok(dialled);
            }
            Err(error)
                if error.kind() == ErrorKind::AuthenticationFailed
                    || error.is_connection_refusal() =>
            {
                return Err(classify(error));
            }
            Err(_) => {}
        }
        let resp2 = self.connect(ProtocolVersion::RESP2, AsyncConnectionConfig::new());
        let connection = resp2.await.map_err(classify)?;
        Ok(piped(connection, Arc::default()))
    }
}

fn piped(connection: MultiplexedConnection, closed: Arc<AtomicBool>) -> Dialled<Pipe> {
    let pipe = Pipe::new(connection);
    let mut dialled = Dialled::new(pipe.clone(), closed);
    dialled.standing.pipe = Some(pipe);
    dialled
}
