//! Whose vote counts while a group behind Sentinel fails over: ours beside the redis crate's `SentinelClient`,
//! which asks for the master again after every error, in the same run.

use std::time::{Duration, Instant};

use redis::sentinel::{SentinelClient, SentinelServerType};
use redlock::{LockBackend, LockValue, Resources, SentinelNode, Vote};
use redlock_test::server::{RedisServer, SentinelGroup};
use tokio::time::{sleep, timeout};

/// Longer than a demoted master goes on to take writes.
const WATCHED: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(10);
const OPERATION: Duration = Duration::from_millis(200);

/// A vote that was granted: on what, and when it was asked for.
type Granted = (String, Instant);

#[tokio::main]
async fn main() {
    println!(
        "event      client          without a vote   last vote of the old master, after another was announced"
    );
    for event in ["planned", "kill -9", "SIGSTOP"] {
        let mut group = SentinelGroup::start();
        let old = group.master();
        let urls: Vec<_> = group
            .sentinel_servers()
            .iter()
            .map(RedisServer::url)
            .collect();
        let end = Instant::now() + WATCHED;
        let node = SentinelNode::new(urls.clone(), "mymaster").expect("URLs");
        let ours = tokio::spawn(ours(node, end));
        let server = SentinelServerType::Master;
        let client = SentinelClient::build(urls, "mymaster", None, server);
        let stock = tokio::spawn(stock(client.expect("URLs"), end));
        sleep(Duration::from_secs(1)).await;
        match event {
            "planned" => group.failover(),
            "kill -9" => group.server_at(old).kill(),
            _ => group.server_at(old).pause(),
        }
        let new = group.master_other_than(old);
        let announced = Instant::now();
        if event == "SIGSTOP" {
            sleep(Duration::from_secs(5)).await;
            group.server_at(old).resume();
        }
        for (client, granted) in [("SentinelNode", ours), ("SentinelClient", stock)] {
            let granted = granted.await.expect("it ends");
            report(event, client, &granted, group.server_at(new), announced);
        }
    }
}

async fn ours(node: SentinelNode, end: Instant) -> Vec<Granted> {
    let mut granted = Vec::new();
    while Instant::now() < end {
        let (name, asked) = (format!("ours:{}", granted.len()), Instant::now());
        let resource = Resources::new([name.as_str()]).expect("a name");
        let value = LockValue::random();
        let vote = timeout(OPERATION, node.acquire(&resource, &value, 3 * WATCHED)).await;
        if let Ok(Ok(Vote::Granted)) = vote {
            granted.push((name, asked));
        }
        sleep(EVERY).await;
    }
    granted
}

async fn stock(mut client: SentinelClient, end: Instant) -> Vec<Granted> {
    let (mut granted, mut connection) = (Vec::new(), None);
    while Instant::now() < end {
        let (name, asked) = (format!("stock:{}", granted.len()), Instant::now());
        let ask = async {
            if connection.is_none() {
                connection = client.get_async_connection().await.ok();
            }
            let ttl = (3 * WATCHED).as_secs();
            let mut set = redis::cmd("SET");
            set.arg(&name).arg("v").arg("NX").arg("EX").arg(ttl);
            set.query_async::<Option<String>>(connection.as_mut()?)
                .await
                .ok()?
        };
        if timeout(OPERATION, ask).await == Ok(Some("OK".to_owned())) {
            granted.push((name, asked));
        } else {
            connection = None;
        }
        sleep(EVERY).await;
    }
    granted
}

fn report(event: &str, client: &str, granted: &[Granted], new: &RedisServer, announced: Instant) {
    let gaps = granted.windows(2).map(|pair| pair[1].1 - pair[0].1);
    let gap = gaps.max().unwrap_or(WATCHED);
    let keys = new.keys();
    let by_old = |(name, asked): &&Granted| *asked > announced && keys.binary_search(name).is_err();
    let last = granted.iter().rfind(by_old);
    let last = last.map_or("none".to_owned(), |(_, asked)| {
        format!("{:.2} s", (*asked - announced).as_secs_f64())
    });
    println!(
        "{event:<10} {client:<15} {:>10.2} s     {last}",
        gap.as_secs_f64()
    );
}
