//! A server that moves: votes of a connection that was given up do not count.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use redlock::{
    BackendError, BackendErrorKind, LockBackend, LockValue, RedisNode, Resources, Vote,
    redis_rs::{
        Follow, Retire, Server, Witness,
        redis::{ConnectionInfo, IntoConnectionInfo},
    },
};
use redlock_test::server::RedisServer;
use tests::TTL;

/// What happens between a vote that was granted and its confirmation.
#[derive(Debug, Default)]
struct Happens {
    moved: AtomicBool,
    refused: AtomicBool,
    arrivals: AtomicUsize,
}

#[derive(Debug)]
struct Here {
    url: String,
    happens: Arc<Happens>,
}

struct Seen {
    happens: Arc<Happens>,
    connection: Retire,
}

#[async_trait]
impl Follow for Here {
    async fn find(&self) -> Result<ConnectionInfo, BackendError> {
        Ok(self.url.as_str().into_connection_info().unwrap())
    }

    async fn arrived(&self, server: &Server) -> Result<Option<Arc<dyn Witness>>, BackendError> {
        self.happens.arrivals.fetch_add(1, SeqCst);
        let (happens, connection) = (Arc::clone(&self.happens), server.retire());
        Ok(Some(Arc::new(Seen {
            happens,
            connection,
        })))
    }
}

#[async_trait]
impl Witness for Seen {
    async fn confirm(&self) -> Result<(), BackendError> {
        if self.happens.moved.swap(false, SeqCst) {
            self.connection.retire();
        }
        if self.happens.refused.swap(false, SeqCst) {
            return Err(BackendError::new(BackendErrorKind::Server, "not seen"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_vote_counts_when_it_is_confirmed_and_its_connection_still_the_one() {
    let server = RedisServer::start();
    let happens = Arc::new(Happens::default());
    let url = server.url();
    let node = RedisNode::builder().follow(Here {
        url,
        happens: Arc::clone(&happens),
    });
    let a = Resources::new(["a"]).unwrap();
    let value = LockValue::random();
    for event in [&happens.moved, &happens.refused] {
        assert_eq!(node.acquire(&a, &value, TTL).await.unwrap(), Vote::Granted);
        event.store(true, SeqCst);
        assert!(node.extend(&a, &value, TTL).await.is_err());
        assert_eq!(server.keys(), ["a"], "an extension releases nothing");
        assert_eq!(node.release(&a, &value).await.unwrap(), Vote::Granted);

        event.store(true, SeqCst);
        let error = node.acquire(&a, &value, TTL).await.unwrap_err();
        assert!(!error.may_have_happened(), "{error}");
        assert!(server.keys().is_empty(), "it was taken back");
    }
    // Only a connection that was given up is replaced, when it is needed next.
    assert_eq!(node.acquire(&a, &value, TTL).await.unwrap(), Vote::Granted);
    assert_eq!(happens.arrivals.load(SeqCst), 3);
}
