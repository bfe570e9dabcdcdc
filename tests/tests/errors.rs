//! Servers that refuse, are set up wrongly, or are no Redis at all: each becomes a vote that names the node and the cause.

use std::{fs, net::SocketAddr, time::Duration};

use redlock::{BackendErrorKind, Error, NodeVote, RedisNode, Redlock, Votes};
use redlock_test::server::RedisServer;
use tests::{TTL, nodes, redlock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// The vote of the node at this address, which must be an error, as text.
fn error_of(votes: &Votes, node: SocketAddr) -> (BackendErrorKind, String) {
    let of_node = |vote: &NodeVote<'_>| vote.node() == node.to_string();
    let vote = votes.iter().find(of_node).expect("the vote names the node");
    let error = vote
        .answer()
        .expect("an answer")
        .as_ref()
        .expect_err("an error");
    (error.kind(), vote.to_string())
}

/// Tries once on this node alone; the error of its vote.
async fn refused_by(url: &str, node: SocketAddr) -> (BackendErrorKind, String) {
    let redlock = Redlock::new(nodes([url])).unwrap();
    match redlock.try_acquire("a", TTL).await {
        Err(Error::NoQuorum(votes)) => error_of(&votes, node),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn scripts_the_server_has_forgotten_are_sent_again() {
    let servers = RedisServer::start_many(3);
    let flush = || {
        for server in &servers {
            assert_eq!(server.cli(&["SCRIPT", "FLUSH"]), "OK");
        }
    };
    let redlock = redlock(&servers);
    let mut lock = redlock.acquire(["a", "b"], TTL).await.unwrap();
    flush();
    lock.extend(TTL).await.unwrap();
    flush();
    lock.release().await.unwrap();
    flush();
    redlock
        .acquire(["a", "b"], TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
}

#[tokio::test]
async fn passwords_wrong_missing_and_right() {
    let server = RedisServer::start_with(&["--requirepass", "geheim"]);
    let address = server.address();

    let (kind, text) = refused_by(&format!("redis://:hunter2@{address}"), address).await;
    assert_eq!(kind, BackendErrorKind::Server);
    assert!(
        text.contains("WRONGPASS") || text.contains("uthentication"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");

    let (kind, text) = refused_by(&format!("redis://{address}"), address).await;
    assert_eq!(kind, BackendErrorKind::Server);
    assert!(text.contains("NOAUTH"), "{text}");

    let url = format!("redis://:geheim@{address}");
    let redlock = Redlock::new(nodes([&url])).unwrap();
    let lock = redlock.acquire("a", TTL).await.unwrap();
    let shown = format!(
        "{redlock:?} {lock:?} {:?} {:?}",
        nodes([&url]),
        RedisNode::builder()
    );
    assert!(!shown.contains("geheim"), "{shown}");
    lock.release().await.unwrap();
}

#[tokio::test]
async fn an_acl_user_is_named_in_the_url() {
    let server = RedisServer::start();
    let rule = [
        "ACL", "SETUSER", "app", "on", ">pw", "~lock:*", "+set", "+evalsha", "+eval", "+get",
        "+del",
    ];
    assert_eq!(server.cli(&rule), "OK");
    let url = format!("redis://app:pw@{}", server.address());
    let redlock = Redlock::builder(nodes([&url]))
        .retry_count(0)
        .build()
        .unwrap();
    redlock
        .acquire("lock:a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let error = redlock.acquire("other", TTL).await.unwrap_err();
    let (kind, text) = error_of(error.votes().unwrap(), server.address());
    assert_eq!(kind, BackendErrorKind::Unsupported);
    assert!(text.contains("no permissions"), "{text}");
}

#[tokio::test]
async fn a_bad_url_is_refused_at_once_and_its_password_is_not_shown() {
    for url in [
        "",
        "redis//:geheim@h",
        "http://u:geheim@h",
        "redis://u:geheim@h:99999",
        "redis://u:geheim@h/x",
    ] {
        let error = RedisNode::new(url).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("geheim"), "{shown}");
    }
}

#[tokio::test]
async fn the_same_address_twice_is_refused_also_with_other_credentials_or_databases() {
    for (one, other) in [
        ("redis://h:6379", "redis://h"),
        ("redis://h", "redis://u:p@h"),
        ("redis://h/0", "redis://h/1"),
        ("redis://example.com", "redis://EXAMPLE.com"),
    ] {
        let error = Redlock::new(nodes([one, other])).unwrap_err();
        assert!(
            error.to_string().contains("given twice"),
            "{one} {other}: {error}"
        );
    }
}

#[tokio::test]
async fn a_read_only_replica_refuses_until_it_is_a_master() {
    let master = RedisServer::start();
    let port = master.address().port().to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    let (kind, text) = refused_by(&replica.url(), replica.address()).await;
    assert_eq!(kind, BackendErrorKind::Server);
    assert!(text.contains("read only replica"), "{text}");
    let redlock = Redlock::new(nodes([replica.url()])).unwrap();
    assert!(redlock.try_acquire("a", TTL).await.is_err());
    assert_eq!(replica.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    redlock
        .try_acquire("a", TTL)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_of_another_type_is_held_and_is_named_when_it_is_in_the_way_later() {
    let servers = RedisServer::start_many(3);
    let redlock = redlock(&servers);
    for server in &servers {
        assert_eq!(server.cli(&["RPUSH", "list", "x"]), "1");
    }
    assert!(matches!(
        redlock.try_acquire("list", TTL).await,
        Err(Error::Locked(_))
    ));

    let mut lock = redlock.acquire(["a", "b"], TTL).await.unwrap();
    tests::eventually("all hold it", || {
        servers.iter().all(|s| s.keys().len() == 3)
    })
    .await;
    for server in &servers {
        let _ = server.cli(&["DEL", "a"]);
        assert_eq!(server.cli(&["RPUSH", "a", "x"]), "1");
    }
    let error = lock.extend(TTL).await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    let error = lock.release().await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    tests::eventually("the other key is released all the same", || {
        servers.iter().all(|server| server.keys() == ["a", "list"])
    })
    .await;
}

#[tokio::test]
async fn a_server_out_of_memory_says_so() {
    let server = RedisServer::start_with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    let (kind, text) = refused_by(&server.url(), server.address()).await;
    assert_eq!(kind, BackendErrorKind::Server);
    assert!(text.contains("OOM"), "{text}");
}

#[tokio::test]
async fn a_server_that_cannot_persist_says_so() {
    let server = RedisServer::start_with(&["--save", "3600", "1"]);
    assert_eq!(server.cli(&["SET", "k", "v"]), "OK");
    // Its directory becomes one in which it cannot write: a snapshot then fails.
    let dump = server.dir().join("dump.rdb");
    fs::create_dir(&dump).unwrap();
    fs::write(dump.join("in the way"), "").unwrap();
    let _ = server.cli(&["BGSAVE"]);
    tests::eventually("the snapshot fails", || {
        server
            .cli(&["INFO", "persistence"])
            .contains("rdb_last_bgsave_status:err")
    })
    .await;
    let (kind, text) = refused_by(&server.url(), server.address()).await;
    assert_eq!(kind, BackendErrorKind::Server);
    assert!(text.contains("MISCONF"), "{text}");
}

#[tokio::test]
async fn nobody_listens() {
    let mut server = RedisServer::start();
    server.kill();
    let (kind, text) = refused_by(&server.url(), server.address()).await;
    assert_eq!(kind, BackendErrorKind::Unreachable);
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_host_that_does_not_exist() {
    let redlock = Redlock::new(nodes(["redis://no-such-host.invalid:6379"])).unwrap();
    let error = redlock.try_acquire("a", TTL).await.unwrap_err();
    assert!(matches!(&error, Error::NoQuorum(_)), "{error}");
    assert!(
        error.to_string().contains("no-such-host.invalid:6379"),
        "{error}"
    );
}

/// A socket that is no Redis: it says this to whoever connects, and to whatever is sent.
async fn no_redis(says: &'static [u8], then_closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 1024];
                while socket.write_all(says).await.is_ok()
                    && !then_closes
                    && socket.read(&mut heard).await.is_ok_and(|length| length > 0)
                {
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn sockets_that_are_no_redis() {
    for (says, then_closes) in [
        (&b""[..], true),
        (b"", false),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", true),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
        (b"\xff\xfe\x00garbage", false),
        (b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n", false),
        (b":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n", false),
        (b"$-1\r\n$-1\r\n$-1\r\n", true),
        (b"*1000000000\r\n", false),
        (b"$999999999999\r\n", false),
        (b"-ERR no\r\n-ERR no\r\n-ERR no\r\n-ERR no\r\n", false),
    ] {
        let address = no_redis(says, then_closes).await;
        let servers = RedisServer::start_many(2);
        let mut urls: Vec<_> = servers.iter().map(RedisServer::url).collect();
        urls.push(format!("redis://{address}"));
        let redlock = Redlock::builder(nodes(&urls))
            .node_timeout(Duration::from_secs(2))
            .build()
            .unwrap();
        // With two good nodes it only costs its vote ...
        redlock
            .acquire("a", TTL)
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        // ... and alone it never grants for long what it cannot confirm, panics, or hangs.
        let alone = Redlock::builder(nodes(&urls[2..]))
            .retry_count(1)
            .build()
            .unwrap();
        if let Ok(mut lock) = alone.acquire("a", TTL).await {
            assert!(says.starts_with(b"+OK"), "{says:?} granted");
            assert!(lock.extend(TTL).await.is_err(), "{says:?} extended");
        }
    }
}
