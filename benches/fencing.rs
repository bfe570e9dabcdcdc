//! What a fencing token costs: the median uncontended acquire and release on five nodes, plain and fenced, of each
//! driver, by turns in one run.

use std::time::{Duration, Instant};

use redlock::{Fencing, FredNode, RedisNode, Redlock, RedlockBuilder};
use redlock_test::server::RedisServer;

const ROUNDS: usize = 40;
const CYCLES: usize = 100;
const TTL: Duration = Duration::from_secs(10);

struct Measured {
    redlock: Redlock,
    acquires: Vec<Duration>,
    cycles: Vec<Duration>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let servers = RedisServer::start_many(5);
    let urls = || servers.iter().map(RedisServer::url);
    let redis_rs = || Redlock::builder(urls().map(|url| RedisNode::new(url).expect("a URL")));
    let fred = || Redlock::builder(urls().map(|url| FredNode::new(url).expect("a URL")));
    let fenced = |builder: RedlockBuilder| builder.fencing(Fencing::new());
    let mut all = [redis_rs(), fenced(redis_rs()), fred(), fenced(fred())].map(Measured::new);
    for it in &mut all {
        it.cycles().await;
        it.forget();
    }
    for round in 0..ROUNDS {
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
    println!("uncontended on five nodes, medians of {}:", ROUNDS * CYCLES);
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
