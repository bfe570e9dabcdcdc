//! No driver sends an acquire twice: the server executes it, and the reply is lost on the way.

use std::time::Duration;

use redlock::{FredNode, LockBackend, RedisNode, Redlock, SentinelNode};
use redlock_test::{
    proxy::Proxy,
    server::{RedisServer, SentinelGroup},
};
use tests::{TTL, calls, eventually, eventually_clean, fred_client, fred_pool, pool, sentinels};

/// Whether the connection then breaks or not, the server has been asked once when all is over.
async fn is_asked_once(node: impl LockBackend, server: &RedisServer, proxy: &Proxy) {
    let redlock = Redlock::builder([node])
        .retry_count(0)
        .node_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    // The script that takes several looks at each of them.
    for (names, sent, command, asked) in [
        (&["{t}a"][..], "SET", "set", 1),
        (&["{t}a", "{t}b"], "EVALSHA", "exists", 2),
    ] {
        for cut in [true, false] {
            let patience = [Duration::from_millis(100); 100];
            let warm = redlock.acquire_with_retry(names, TTL, patience).await;
            warm.unwrap().release().await.unwrap();
            eventually_clean(std::slice::from_ref(server)).await;

            let before = calls(server, command);
            proxy.lose_replies_to(sent);
            let attempt = redlock.acquire(names, TTL);
            let (outcome, ()) = tokio::join!(attempt, async {
                eventually("it is executed", || {
                    calls(server, command) >= before + asked
                })
                .await;
                if cut {
                    proxy.cut();
                }
            });
            assert!(outcome.is_err(), "nobody can know that it was granted");
            proxy.cut();
            proxy.resume();
            eventually_clean(std::slice::from_ref(server)).await;
            assert_eq!(calls(server, command), before + asked, "cut: {cut}");
        }
    }
}

async fn start(args: &[&str]) -> (RedisServer, Proxy) {
    let server = RedisServer::start_with(args);
    let proxy = Proxy::start(server.address()).await.unwrap();
    (server, proxy)
}

/// A cluster of one, which says that it is to be found at the proxy.
async fn start_cluster() -> (RedisServer, Proxy) {
    let (server, proxy) = start(&["--cluster-enabled", "yes"]).await;
    let port = proxy.address().port().to_string();
    for command in [
        &["CONFIG", "SET", "cluster-announce-ip", "127.0.0.1"][..],
        &["CONFIG", "SET", "cluster-announce-port", &port],
        &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"],
    ] {
        assert_eq!(server.cli(command), "OK");
    }
    eventually("the cluster is up", || {
        server
            .cli(&["CLUSTER", "INFO"])
            .contains("cluster_state:ok")
    })
    .await;
    (server, proxy)
}

#[tokio::test]
async fn redis_rs_asks_once() {
    let (server, proxy) = start(&[]).await;
    is_asked_once(RedisNode::new(proxy.url()).unwrap(), &server, &proxy).await;
}

#[tokio::test]
async fn a_connection_manager_asks_once() {
    let (server, proxy) = start(&[]).await;
    let client = redis::Client::open(proxy.url()).unwrap();
    let config = redis::aio::ConnectionManagerConfig::new()
        .set_number_of_retries(3)
        .set_connection_timeout(Some(Duration::from_millis(200)));
    let manager = client
        .get_connection_manager_with_config(config)
        .await
        .unwrap();
    let node = RedisNode::builder().name("managed").connection(manager);
    is_asked_once(node, &server, &proxy).await;
}

#[tokio::test]
async fn a_pool_asks_once() {
    let (server, proxy) = start(&[]).await;
    is_asked_once(pool(&proxy.url(), 3), &server, &proxy).await;
}

#[tokio::test]
async fn a_cluster_connection_asks_once() {
    let (server, proxy) = start_cluster().await;
    let node = RedisNode::from_cluster([proxy.url()]).unwrap();
    is_asked_once(node, &server, &proxy).await;
}

#[tokio::test]
async fn fred_asks_once() {
    let (server, proxy) = start(&[]).await;
    is_asked_once(FredNode::new(proxy.url()).unwrap(), &server, &proxy).await;
    is_asked_once(
        fred_client(FredNode::builder(), &proxy.url()),
        &server,
        &proxy,
    )
    .await;
    is_asked_once(
        fred_pool(FredNode::builder(), &proxy.url(), 3),
        &server,
        &proxy,
    )
    .await;
}

#[tokio::test]
async fn fred_asks_a_cluster_once() {
    let (server, proxy) = start_cluster().await;
    let url = proxy.url().replace("redis://", "redis-cluster://");
    is_asked_once(FredNode::new(&url).unwrap(), &server, &proxy).await;
    is_asked_once(fred_client(FredNode::builder(), &url), &server, &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_behind_sentinel_is_asked_once() {
    let group = SentinelGroup::start();
    let master = &group.servers()[0];
    let proxy = Proxy::start(master.address()).await.unwrap();
    let port = proxy.address().port().to_string();
    for sentinel in group.sentinel_servers() {
        // A name of its own, under which the master is found at the proxy.
        let monitor = ["SENTINEL", "MONITOR", "proxied", "127.0.0.1", &port, "2"];
        assert_eq!(sentinel.cli(&monitor), "OK");
        let patient = [
            "SENTINEL",
            "SET",
            "proxied",
            "down-after-milliseconds",
            "600000",
        ];
        assert_eq!(sentinel.cli(&patient), "OK");
    }
    let node = SentinelNode::new(sentinels(&group), "proxied").unwrap();
    is_asked_once(node, master, &proxy).await;
}
