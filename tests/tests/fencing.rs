//! Fencing tokens on real servers.

use std::time::Duration;

use redlock::{
    Error, Fencing, FencingToken, FredNode, LockBackend, RedisNode, Redlock, SentinelNode,
};
use redlock_test::server::{RedisServer, SentinelGroup};
use tests::{TTL, builder, calls, eventually, pool, sentinels};
use tokio::time::sleep;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy)]
enum Clock {
    Right,
    Ahead,
    Behind,
}

impl Clock {
    #[expect(clippy::disallowed_types, reason = "it is the clock of a client")]
    fn fencing(self) -> Fencing {
        use std::time::SystemTime;
        match self {
            Self::Right => Fencing::new(),
            Self::Ahead => Fencing::new().clock(|| SystemTime::now() + HOUR),
            Self::Behind => Fencing::new().clock(|| SystemTime::now() - HOUR),
        }
    }
}

fn fenced<B: LockBackend>(nodes: impl IntoIterator<Item = B>, clock: Clock) -> Redlock {
    let builder = Redlock::builder(nodes).fencing(clock.fencing());
    builder.retry_count(100).build().expect("distinct nodes")
}

async fn token_of(redlock: &Redlock, resource: &str) -> FencingToken {
    let lock = redlock.acquire(resource, TTL).await.expect("a quorum");
    let token = lock.fencing_token().expect("a fenced lock");
    // The ttl is long, and who is asked next is patient.
    let released = lock.release().await;
    assert!(!matches!(released, Err(Error::Lost(_))), "it is ours");
    token
}

#[tokio::test]
async fn tokens_rise_over_all_drivers_whoevers_clock_is_off_and_whichever_minority_crashes() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut servers: Vec<_> = (0..5).map(|_| RedisServer::start_with(&durable)).collect();
    let urls: Vec<_> = servers.iter().map(RedisServer::url).collect();
    let each = |node: &dyn Fn(&String) -> RedisNode| urls.iter().map(node).collect::<Vec<_>>();
    let open = |url: &String| RedisNode::new(url.as_str()).expect("a URL");
    let clients = [
        fenced(each(&open), Clock::Right),
        fenced(each(&open), Clock::Ahead),
        fenced(
            urls.iter().map(|url| FredNode::new(url).expect("a URL")),
            Clock::Behind,
        ),
        fenced(each(&|url| pool(url, 2)), Clock::Ahead),
    ];
    let mut last = FencingToken::new(0);
    for one in 0..5 {
        for other in one + 1..5 {
            for down in [one, other] {
                servers[down].kill();
            }
            for client in &clients {
                let token = token_of(client, "a").await;
                assert!(token > last, "{token} after {last}");
                last = token;
            }
            for down in [one, other] {
                servers[down].restart();
            }
        }
    }
}

#[tokio::test]
async fn tokens_rise_over_a_failover() {
    let group = SentinelGroup::start();
    let node = || SentinelNode::new(sentinels(&group), group.master_name()).expect("URLs");
    let [right, behind] = [Clock::Right, Clock::Behind].map(|clock| fenced([node()], clock));
    let first = token_of(&right, "a").await;
    let old = group.master();
    let replicated = || {
        let replicas = group
            .servers()
            .iter()
            .filter(|server| server.address() != old);
        let fence = first.to_string();
        replicas
            .into_iter()
            .all(|server| server.cli(&["GET", "redlock:fence:{a}"]) == fence)
    };
    eventually("the fence is replicated", replicated).await;
    group.failover();
    let _ = group.master_other_than(old);
    assert!(token_of(&behind, "a").await > first);
}

#[tokio::test]
async fn it_takes_one_script_and_one_key_with_a_lifetime() {
    let servers = RedisServer::start_many(3);
    let redlock = builder(&servers)
        .fencing(Fencing::new().keep_for(HOUR))
        .build()
        .unwrap();
    let token = token_of(&redlock, "a").await.to_string();
    for server in &servers {
        let fence = || server.cli(&["GET", "redlock:fence:{a}"]);
        eventually("the slowest has executed it", || fence() == token).await;
        let left: u64 = server.cli(&["PTTL", "redlock:fence:{a}"]).parse().unwrap();
        assert!(left <= 3_600_000 && left > 3_000_000, "{left} ms");
        eventually("it is free", || server.cli(&["EXISTS", "a"]) == "0").await;
    }
    let scripts = |server| calls(server, "evalsha") + calls(server, "eval");
    let before: Vec<_> = servers.iter().map(scripts).collect();
    let lock = redlock.acquire("a", TTL).await.unwrap();
    for (server, before) in servers.iter().zip(before) {
        eventually("it is held", || server.cli(&["EXISTS", "a"]) == "1").await;
        assert_eq!(scripts(server) - before, 1);
    }
    lock.release().await.unwrap();
    let forever = builder(&servers)
        .fencing(Fencing::new().keep_forever())
        .build()
        .unwrap();
    token_of(&forever, "{b}:1").await;
    for server in &servers {
        eventually("it stays for ever", || {
            server.cli(&["PTTL", "redlock:fence:{b}:1"]) == "-1"
        })
        .await;
    }
}

#[tokio::test]
async fn plain_and_fenced_locks_exclude_each_other() {
    let servers = RedisServer::start_many(3);
    let plain = builder(&servers).build().unwrap();
    let fenced = builder(&servers).fencing(Fencing::new()).build().unwrap();
    let held = plain.acquire(["a", "b"], TTL).await.unwrap();
    let refused = fenced.try_acquire("b", TTL).await;
    assert!(matches!(refused, Err(Error::Locked(_))));
    held.release().await.unwrap();
    let held = fenced.acquire(["a", "b"], TTL).await.unwrap();
    let refused = plain.try_acquire("a", TTL).await;
    assert!(matches!(refused, Err(Error::Locked(_))));
    held.release().await.unwrap();
}

#[tokio::test]
async fn a_server_that_allows_no_scripts_says_so() {
    let server = RedisServer::start();
    let _ = server.cli(&["ACL", "SETUSER", "default", "-@scripting"]);
    let redlock = fenced([RedisNode::new(server.url()).unwrap()], Clock::Right);
    let error = redlock.try_acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert!(error.to_string().contains("unsupported"), "{error}");
    assert_eq!(server.cli(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn a_fence_that_is_no_number_is_an_error_and_never_overwritten() {
    let server = RedisServer::start();
    let _ = server.cli(&["SET", "redlock:fence:{a}", "mine"]);
    let redlock = fenced([RedisNode::new(server.url()).unwrap()], Clock::Right);
    let error = redlock.try_acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert_eq!(server.cli(&["GET", "redlock:fence:{a}"]), "mine");
    assert_eq!(server.cli(&["EXISTS", "a"]), "0");
}

#[tokio::test]
async fn many_who_contend_never_share_a_token() {
    let servers = RedisServer::start_many(3);
    let mut tasks = Vec::new();
    for clock in [Clock::Right, Clock::Ahead, Clock::Behind, Clock::Right] {
        let nodes = servers
            .iter()
            .map(|server| RedisNode::new(server.url()).unwrap());
        let redlock = Redlock::builder(nodes)
            .fencing(clock.fencing())
            .retry_count(1000)
            .retry_delay(Duration::from_millis(20))
            .build()
            .unwrap();
        tasks.push(tokio::spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..10 {
                tokens.push(token_of(&redlock, "a").await);
                sleep(Duration::from_millis(1)).await;
            }
            tokens
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        let tokens = task.await.unwrap();
        assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
        all.extend(tokens);
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 40, "every acquisition has a token of its own");
}
