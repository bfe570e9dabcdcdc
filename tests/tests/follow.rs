//! A server that moves: votes of a connection that was given up do not count.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use redlock::{
    BackendError, BackendErrorKind, LockBackend, LockValue, RedisNode, Redlock, Resources, Vote,
    redis_rs::{
        Follow, Retire, Server, Witness,
        redis::{ConnectionInfo, IntoConnectionInfo},
    },
};
use redlock_test::{proxy::Proxy, server::RedisServer};
use tests::{TTL, eventually_clean, warm};

/// What happens between a vote that was granted and its confirmation.
#[derive(Debug, Default)]
struct Happens {
    moved: AtomicBool,
    refused: AtomicBool,
    arrivals: AtomicUsize,
    connection: Mutex<Option<Retire>>,
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
        *self.happens.connection.lock().unwrap() = Some(server.retire());
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
            let error = BackendError::new(BackendErrorKind::Server, "not seen");
            // Which is true of what the witness did, not of the vote.
            return Err(error.not_executed());
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
    for (event, moves) in [(&happens.moved, true), (&happens.refused, false)] {
        let value = LockValue::random();
        assert_eq!(node.acquire(&a, &value, TTL).await.unwrap(), Vote::Granted);
        event.store(true, SeqCst);
        let error = node.extend(&a, &value, TTL).await.unwrap_err();
        assert!(error.may_have_happened(), "it has: {error}");
        assert_eq!(server.keys(), ["a"], "an extension releases nothing");
        assert_eq!(node.release(&a, &value).await.unwrap(), Vote::Granted);

        event.store(true, SeqCst);
        let value = LockValue::random();
        let error = node.acquire(&a, &value, TTL).await.unwrap_err();
        assert!(server.keys().is_empty(), "it was taken back");
        // But the server that replaces this one may have it.
        assert_eq!(error.may_have_happened(), moves, "{error}");
    }
    // Only a connection that was given up is replaced, when it is needed next.
    let value = LockValue::random();
    assert_eq!(node.acquire(&a, &value, TTL).await.unwrap(), Vote::Granted);
    assert_eq!(happens.arrivals.load(SeqCst), 3);
}

#[tokio::test]
async fn a_vote_that_can_be_neither_confirmed_nor_taken_back_may_have_happened() {
    let server = RedisServer::start();
    let happens = Arc::new(Happens::default());
    let url = server.url();
    let node = RedisNode::builder().follow(Here {
        url,
        happens: Arc::clone(&happens),
    });
    let redlock = Redlock::builder([node]).retry_count(0).build().unwrap();
    warm(&redlock).await;
    // It may set, and may not release.
    let scripts = ["eval", "evalsha", "delex", "delifeq"];
    let forbid = scripts.map(|command| format!("-{command}"));
    let permit = scripts[..2].iter().map(|command| format!("+{command}"));
    let rule = |rules: &[String]| {
        let mut command = vec!["ACL", "SETUSER", "default"];
        command.extend(rules.iter().map(String::as_str));
        server.cli(&command)
    };
    assert_eq!(rule(&forbid[..2]), "OK");
    happens.refused.store(true, SeqCst);
    assert!(redlock.acquire("a", TTL).await.is_err());
    assert_eq!(server.keys(), ["a"]);
    assert_eq!(rule(&permit.collect::<Vec<_>>()), "OK");
    // As it may have happened, it is released again and again.
    eventually_clean(std::slice::from_ref(&server)).await;
}

#[tokio::test]
async fn no_answer_counts_of_a_server_that_was_replaced_meanwhile() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let happens = Arc::new(Happens::default());
    let node = RedisNode::builder().follow(Here {
        url: proxy.url(),
        happens: Arc::clone(&happens),
    });
    let a = Resources::new(["a"]).unwrap();
    let value = LockValue::random();
    for operation in ["release", "extend"] {
        assert_eq!(node.acquire(&a, &value, TTL).await.unwrap(), Vote::Granted);
        // A refusal counts no more than a grant.
        let (asked, ours) = match operation {
            "release" => (value.clone(), true),
            _ => (LockValue::random(), false),
        };
        proxy.stall();
        let (answer, ()) = tokio::join!(
            async {
                match operation {
                    "release" => node.release(&a, &asked).await,
                    _ => node.extend(&a, &asked, TTL).await,
                }
            },
            async {
                let connection = happens.connection.lock().unwrap().take().unwrap();
                connection.retire();
                proxy.resume();
            }
        );
        let error = answer.unwrap_err();
        assert!(error.may_have_happened(), "{operation}: {error}");
        assert_eq!(server.keys().is_empty(), ours, "{operation}");
        node.release(&a, &value).await.unwrap();
    }
}
