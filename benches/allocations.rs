//! `allocations CONTENDER URL…` prints how many allocations a cycle takes; without URLs, on five servers of its own,
//! it writes into `dhat-heap.json` where they are made.
//!
//! An executable of its own, as counting them makes them slower.

use std::{env, time::Duration};

use benches::{contender::Which, rounds::Load, servers};
use dhat::{Alloc, HeapStats, Profiler};
use redlock_test::server::RedisServer;

#[global_allocator]
static ALLOC: Alloc = Alloc;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = env::args().skip(1);
    let which: Which = args.next().expect("a contender").parse().expect("its name");
    let urls: Vec<_> = args.collect();
    if urls.is_empty() {
        let servers = RedisServer::start_many(5);
        let _profiler = Profiler::new_heap();
        measure(which, &servers::urls(&servers)).await;
    } else {
        let _profiler = Profiler::builder().testing().build();
        measure(which, &urls).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
async fn measure(which: Which, urls: &[String]) {
    let load = |cycles| Load {
        tasks: 1,
        time: Duration::ZERO,
        cycles,
    };
    let runner = which.connect(urls).await;
    runner.run(load(100)).await;
    let before = HeapStats::get().total_blocks;
    let round = runner.run(load(1_000)).await;
    let allocations = HeapStats::get().total_blocks - before;
    println!("{:.1}", allocations as f64 / round.cycles());
}
