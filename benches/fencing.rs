//! What a fencing token costs: the median uncontended acquire and release on five nodes, plain and fenced, of each
//! driver, by turns in one run: on this machine, where the servers share its processors, and at a distance, where
//! what counts is that there is no round trip more.

use std::time::{Duration, Instant};

use redlock::{Fencing, FredNode, RedisNode, Redlock, RedlockBuilder};
use redlock_test::{proxy::Proxy, server::RedisServer};

const CYCLES: usize = 100;
/// How long whatever is sent is on its way at least: a timer may add as much.
const DISTANCE: Duration = Duration::from_millis(1);
const TTL: Duration = Duration::from_secs(10);

struct Measured {
    redlock: Redlock,
    acquires: Vec<Duration>,
    cycles: Vec<Duration>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let servers = RedisServer::start_many(5);
    let mut proxies = Vec::new();
    for server in &servers {
        let proxy = Proxy::start_distant(server.address(), DISTANCE).await;
        proxies.push(proxy.expect("a free port"));
    }
    let near: Vec<_> = servers.iter().map(RedisServer::url).collect();
    let distant: Vec<_> = proxies.iter().map(Proxy::url).collect();
    measure("on this machine", &near, 20).await;
    measure("a millisecond away", &distant, 5).await;
}

async fn measure(place: &str, urls: &[String], rounds: usize) {
    let redis_rs = || {
        Redlock::builder(
            urls.iter()
                .map(|url| RedisNode::new(url.as_str()).expect("a URL")),
        )
    };
    let fred = || Redlock::builder(urls.iter().map(|url| FredNode::new(url).expect("a URL")));
    let fenced = |builder: RedlockBuilder| builder.fencing(Fencing::new());
    let mut all = [redis_rs(), fenced(redis_rs()), fred(), fenced(fred())].map(Measured::new);
    for it in &mut all {
        it.cycles().await;
        it.forget();
    }
    for round in 0..rounds {
        // Nobody always comes after the same.
        let turns = if round % 2 == 0 {
            [0, 1, 2, 3]
        } else {
            [3, 1, 2, 0]
        };
        for turn in turns {
            all[turn].cycles().await;
        }
    }
    println!(
        "uncontended on five nodes {place}, medians of {}:",
        rounds * CYCLES
    );
    println!("{:>22}{:>20}", "acquire", "acquire + release");
    for (driver, pair) in ["redis-rs", "fred"].iter().zip(all.chunks_mut(2)) {
        let [plain, fenced] = [0, 1].map(|it| median(&mut pair[it].acquires));
        let [plain_cycle, fenced_cycle] = [0, 1].map(|it| median(&mut pair[it].cycles));
        println!("{driver}");
        println!("  plain {plain:>14.1?}{plain_cycle:>20.1?}");
        println!("  fenced{fenced:>14.1?}{fenced_cycle:>20.1?}");
        let ratio = fenced.as_secs_f64() / plain.as_secs_f64();
        println!("  acquire, fenced/plain {ratio:.2}");
    }
}

impl Measured {
    fn new(builder: RedlockBuilder) -> Self {
        let redlock = builder.build().expect("five servers");
        Self {
            redlock,
            acquires: Vec::new(),
            cycles: Vec::new(),
        }
    }

    async fn cycles(&mut self) {
        for _ in 0..CYCLES {
            let start = Instant::now();
            let lock = self.redlock.acquire("bench", TTL).await.expect("a quorum");
            self.acquires.push(start.elapsed());
            lock.release().await.expect("still ours");
            self.cycles.push(start.elapsed());
        }
    }

    fn forget(&mut self) {
        self.acquires.clear();
        self.cycles.clear();
    }
}

fn median(durations: &mut [Duration]) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}
