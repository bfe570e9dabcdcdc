//! Allocations per cycle, and with `profile CONTENDER` where they are made.
//!
//! An executable of its own, as counting them makes them slower.

use std::{env, time::Duration};

use benches::{contender::Which, rounds::Load, servers::urls};
use dhat::{Alloc, HeapStats, Profiler};
use redlock_test::server::RedisServer;

#[global_allocator]
static ALLOC: Alloc = Alloc;

const CYCLES: usize = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let one = args.iter().position(|arg| arg == "profile").map(|at| {
        let which: Which = args[at + 1].parse().expect("a contender");
        which
    });
    let servers = RedisServer::start_many(5);
    for nodes in [5, 3, 1] {
        let urls = urls(&servers[..nodes]);
        let all = Which::ALL.into_iter().filter(|which| *which != Which::Node);
        for which in all.filter(|which| one.is_none_or(|one| one == *which)) {
            measure(which, &urls, one.is_some()).await;
        }
        if one.is_some() {
            break;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
async fn measure(which: Which, urls: &[String], profile: bool) {
    let load = |cycles| Load {
        tasks: 1,
        time: Duration::ZERO,
        cycles,
    };
    let runner = which.connect(urls).await;
    runner.run(load(100)).await;
    let profiler = if profile {
        Profiler::new_heap()
    } else {
        Profiler::builder().testing().build()
    };
    let round = runner.run(load(CYCLES)).await;
    let stats = HeapStats::get();
    drop(profiler);
    println!(
        "A n={} {which} {:.1} allocations, {:.0} bytes per cycle",
        urls.len(),
        stats.total_blocks as f64 / round.cycles as f64,
        stats.total_bytes as f64 / round.cycles as f64
    );
}
