//! Connections of the user's own, pools, clusters and TLS.

use std::{fs, time::Duration};

use redlock::{
    Error, InvalidRequest, RedisNode, Redlock,
    redis_rs::redis::{self, TlsCertificates},
};
use redlock_test::{
    proxy::Proxy,
    server::{RedisCluster, RedisServer},
};
use tests::{TTL, eventually, eventually_clean, nodes, pool};
use tokio::time::sleep;

async fn works(redlock: &Redlock, resources: &[&str]) {
    let mut lock = redlock.acquire(resources, TTL).await.unwrap();
    let error = redlock.try_acquire(&resources[..1], TTL).await.unwrap_err();
    assert!(matches!(error, Error::Locked(_)), "{error}");
    lock.extend(TTL).await.unwrap();
    lock.release().await.unwrap();
}

#[tokio::test]
async fn a_connection_the_user_already_has() {
    let servers = RedisServer::start_many(3);
    let mut given = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let builder = RedisNode::builder().name(format!("mine {number}"));
        given.push(builder.connection(connection));
    }
    let redlock = Redlock::new(given).unwrap();
    assert_eq!(
        redlock.nodes().collect::<Vec<_>>(),
        ["mine 0", "mine 1", "mine 2"]
    );
    works(&redlock, &["a"]).await;
    works(&redlock, &["a", "b"]).await;
    eventually_clean(&servers).await;
}

#[tokio::test]
async fn pools() {
    let servers = RedisServer::start_many(3);
    let redlock = Redlock::new(servers.iter().map(|server| pool(&server.url(), 4))).unwrap();
    works(&redlock, &["a"]).await;
    works(&redlock, &["a", "b"]).await;
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let redlock = redlock.clone();
            tokio::spawn(async move {
                redlock
                    .acquire(format!("r{number}"), TTL)
                    .await?
                    .release()
                    .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    eventually_clean(&servers).await;
}

#[tokio::test]
async fn a_pool_that_nobody_answers_is_an_outage_in_bounded_time() {
    let mut server = RedisServer::start();
    let redlock = Redlock::new([pool(&server.url(), 1)]).unwrap();
    works(&redlock, &["a"]).await;
    server.pause();
    assert!(matches!(
        redlock.acquire("a", TTL).await,
        Err(Error::NoQuorum(_))
    ));
    server.resume();
    server.kill();
    assert!(matches!(
        redlock.acquire("a", TTL).await,
        Err(Error::NoQuorum(_))
    ));
    server.restart();
    works(&redlock, &["a"]).await;
}

#[tokio::test]
async fn a_set_that_lands_late_over_a_pooled_connection_leaves_no_ghost_lock() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let redlock = Redlock::builder([pool(&proxy.url(), 4)])
        .node_timeout(Duration::from_secs(2))
        .retry_count(0)
        .build()
        .unwrap();
    works(&redlock, &["warm"]).await;
    // Replies, unlike requests, come back: the pool hands the connection out, then the SET stalls.
    let late = {
        let redlock = redlock.clone();
        tokio::spawn(async move { redlock.acquire("ghost", TTL).await })
    };
    sleep(Duration::from_millis(1)).await;
    proxy.stall();
    let outcome = late.await.unwrap();
    sleep(Duration::from_millis(700)).await;
    drop(outcome);
    proxy.resume();
    eventually("a new connection works", || server.cli(&["PING"]) == "PONG").await;
    eventually_clean(std::slice::from_ref(&server)).await;
    sleep(Duration::from_millis(200)).await;
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn a_cluster_is_one_node() {
    let cluster = RedisCluster::start();
    let others = RedisServer::start_many(2);
    let mut members = nodes(others.iter().map(RedisServer::url));
    members.push(RedisNode::from_cluster(cluster.urls()).unwrap());
    let mixed = Redlock::new(members).unwrap();
    let alone = Redlock::new([RedisNode::from_cluster(cluster.urls()).unwrap()]).unwrap();
    for number in 0..30 {
        works(&alone, &[&format!("r{number}")]).await;
    }
    works(&alone, &["{order:1}:a", "{order:1}:b"]).await;
    works(&mixed, &["{order:1}:a", "{order:1}:b"]).await;

    let error = mixed.acquire(["a", "b"], TTL).await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid(InvalidRequest::Unsupported { reason, .. }) if reason.contains("slot")),
        "{error}"
    );
    eventually_clean(&others).await;
    eventually_clean(cluster.members()).await;
}

#[tokio::test]
async fn a_cluster_that_is_down_is_an_outage_and_is_found_again() {
    let mut cluster = RedisCluster::start();
    let redlock = Redlock::new([RedisNode::from_cluster(cluster.urls()).unwrap()]).unwrap();
    cluster.members_mut().iter_mut().for_each(RedisServer::kill);
    let error = redlock.acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    cluster
        .members_mut()
        .iter_mut()
        .for_each(RedisServer::restart);
    let patience = std::iter::repeat_n(Duration::from_millis(300), 60);
    let lock = redlock
        .acquire_with_retry("a", TTL, patience)
        .await
        .unwrap();
    lock.release().await.unwrap();
}

#[tokio::test]
async fn a_hung_member_of_a_cluster_costs_only_its_slots() {
    let cluster = RedisCluster::start();
    let names: Vec<_> = (0..50).map(|number| format!("r{number}")).collect();
    let hung = &cluster.members()[0];
    let elsewhere = |name: &&String| hung.cli(&["GET", name.as_str()]).contains("MOVED");
    let names: Vec<_> = names.iter().filter(elsewhere).collect();
    let connected = Redlock::new([RedisNode::from_cluster(cluster.urls()).unwrap()]).unwrap();
    works(&connected, &[names[0]]).await;
    hung.pause();
    let fresh = Redlock::new([RedisNode::from_cluster(cluster.urls()).unwrap()]).unwrap();
    for redlock in [connected, fresh] {
        let patience = [Duration::from_millis(300); 20];
        let lock = redlock
            .acquire_with_retry(names[1], TTL, patience)
            .await
            .unwrap();
        lock.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_cluster_without_members_or_with_a_database_or_given_twice_is_refused() {
    let none: [&str; 0] = [];
    assert!(RedisNode::from_cluster(none).is_err());
    assert!(RedisNode::from_cluster(["redis://h:1/3"]).is_err());
    let one = RedisNode::from_cluster(["redis://h:1", "redis://h:2"]).unwrap();
    let same = RedisNode::from_cluster(["redis://H:2", "redis://h:1"]).unwrap();
    assert!(matches!(
        Redlock::new([one, same]),
        Err(InvalidRequest::DuplicateNode(_))
    ));
}

#[tokio::test]
async fn tls_with_a_certificate_of_ones_own() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = made.cert.pem();
    let cert_file = file("cert.pem", &certificate);
    let key_file = file("key.pem", &made.signing_key.serialize_pem());
    let server = RedisServer::start_tls(&cert_file, &key_file);
    let url = format!("rediss://localhost:{}", server.address().port());

    let trusted = RedisNode::builder().tls_certificates(TlsCertificates {
        client_tls: None,
        root_cert: Some(certificate.into_bytes()),
    });
    works(
        &Redlock::new([trusted.open(url.as_str()).unwrap()]).unwrap(),
        &["a"],
    )
    .await;

    let untrusted = Redlock::new(nodes([&url])).unwrap();
    let error = untrusted.try_acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert!(error.to_string().to_lowercase().contains("cert"), "{error}");
}
