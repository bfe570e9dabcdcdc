//! What one hung node of five costs: the median acquire and release with it, beside the healthy ones of the same run.

use std::time::{Duration, Instant};

use redlock::{RedisNode, Redlock};
use redlock_test::server::RedisServer;

const ROUNDS: usize = 10;
const CYCLES: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let servers = RedisServer::start_many(5);
    let node = |server: &RedisServer| RedisNode::new(server.url()).expect("a URL");
    let redlock = Redlock::new(servers.iter().map(node)).expect("five servers");
    let (mut healthy, mut hung) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        cycles(&redlock, &mut healthy).await;
        let server = &servers[round % servers.len()];
        server.pause();
        cycles(&redlock, &mut hung).await;
        server.resume();
        // Until the node votes again.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (healthy, hung) = (median(healthy), median(hung));
    println!(
        "acquire + release on five nodes, median of {}:",
        ROUNDS * CYCLES
    );
    println!("  healthy        {healthy:>10.1?}");
    println!("  one node hung  {hung:>10.1?}");
    println!(
        "hung/healthy {:.2}",
        hung.as_secs_f64() / healthy.as_secs_f64()
    );
}

async fn cycles(redlock: &Redlock, took: &mut Vec<Duration>) {
    for _ in 0..CYCLES {
        let start = Instant::now();
        let lock = redlock
            .acquire("bench", Duration::from_secs(10))
            .await
            .expect("a quorum");
        lock.release().await.expect("still ours");
        took.push(start.elapsed());
    }
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}
