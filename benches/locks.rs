//! The contenders beside each other, all workloads: a table, JSON and plots in `results/`.
//!
//! `quick` prints ratios alone. `cycles CONTENDER NODES TASKS SECONDS` runs one contender, for a profile;
//! `instructions` counts what a cycle takes, by callgrind.

use std::{
    env, io,
    path::Path,
    process::{self, Command},
    time::Duration,
};

use benches::{
    contend::contention,
    contender::Which,
    cpu::shared_now,
    fault::faults,
    instructions,
    kept::kept,
    plot::plots,
    report::{Cycles, Report},
    rounds::{Load, Round, Runner, interleave},
    servers,
};
use redlock_test::server::RedisServer;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

/// Who is compared with whom.
const PAIRS: [(Which, Which); 6] = [
    (Which::Ours, Which::Reference),
    (Which::Ours, Which::Rslock),
    (Which::Ours, Which::Floor),
    (Which::Ours, Which::Node),
    (Which::Fred, Which::ReferenceFred),
    (Which::Fred, Which::Rslock),
];

fn main() {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => runtime(2).block_on(full()),
        ["quick"] => runtime(2).block_on(quick()),
        ["cycles", which, nodes, tasks, seconds] => {
            runtime(2).block_on(cycles(which, nodes, tasks, seconds));
        }
        ["instructions"] => instructions::all(),
        ["count", which, cycles, ref urls @ ..] => {
            runtime(1).block_on(instructions::count(which, cycles, urls));
        }
        // One process of many has one thread.
        ["contend", which, resource, hold, ref urls @ ..] => {
            runtime(1).block_on(contend(which, resource, hold, urls));
        }
        _ => panic!("unknown arguments: {args:?}"),
    }
}

fn runtime(threads: usize) -> Runtime {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let builder = builder.worker_threads(threads).enable_all();
    builder.build().expect("a runtime")
}

async fn full() {
    let mut servers = RedisServer::start_many(9);
    let mut report = Report::new();
    report.kept = Some(kept(&servers[..3]).await);
    for nodes in [5, 3, 1] {
        for (workload, tasks) in [("A", 1), ("B", 64)] {
            let load = Load::new(tasks, Duration::from_millis(150));
            let servers = &servers[..nodes];
            compare(&mut report, workload, servers, &Which::ALL, load, 15).await;
        }
    }
    for it in report.cycles.iter_mut().filter(|it| it.workload == "A") {
        it.allocations = allocations(it.contender, &servers[..it.nodes]);
    }
    for which in [Which::Ours, Which::Fred, Which::Rslock, Which::Node] {
        let seconds = [(0, 2), (1, 4), (8, 6), (20, 8)];
        contend_all(&mut report, &servers[..5], which, seconds).await;
    }
    for which in [Which::Ours, Which::Fred] {
        let time = Duration::from_millis(500);
        fault_all(&mut report, &mut servers[..5], which, time, 5).await;
    }
    // Last, as thousands at once can overload the machine beyond recovery.
    let limit = Duration::from_secs(90);
    if timeout(limit, growth(&mut report, &servers)).await.is_err() {
        eprintln!("growth: not done in {limit:?}, the rest is missing");
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    report.write(&directory);
    plots(&report, &directory).expect("writable");
    println!("written to {}", directory.display());
}

async fn quick() {
    let mut servers = RedisServer::start_many(5);
    let mut report = Report::new();
    let over_redis_rs = [Which::Ours, Which::Reference, Which::Rslock, Which::Floor];
    let over_fred = [Which::Fred, Which::ReferenceFred];
    let all = [&over_redis_rs[..], &over_fred].concat();
    let plan = [
        (5, &all[..], 7),
        (3, &over_redis_rs[..3], 3),
        (1, &over_redis_rs[..3], 3),
    ];
    for (nodes, contenders, rounds) in plan {
        for (workload, tasks) in [("A", 1), ("B", 64)] {
            let load = Load::new(tasks, Duration::from_millis(100));
            let servers = &servers[..nodes];
            compare(&mut report, workload, servers, contenders, load, rounds).await;
        }
    }
    contend_all(&mut report, &servers, Which::Ours, [(0, 1), (1, 2), (8, 3)]).await;
    contend_all(&mut report, &servers, Which::Rslock, [(1, 2)]).await;
    let time = Duration::from_millis(200);
    fault_all(&mut report, &mut servers, Which::Ours, time, 3).await;
}

/// Runs these contenders beside each other, and prints and keeps what came of it.
async fn compare(
    report: &mut Report,
    workload: &'static str,
    servers: &[RedisServer],
    contenders: &[Which],
    load: Load,
    rounds: usize,
) {
    let (nodes, urls) = (servers.len(), servers::urls(servers));
    let contenders = contenders
        .iter()
        .copied()
        .filter(|which| which.is_available());
    let runners = connect(contenders, &urls).await;
    let runners: Vec<_> = runners.iter().map(AsRef::as_ref).collect();
    let done = interleave(&runners, load, rounds).await;
    for (runner, rounds) in runners.iter().zip(&done) {
        let mut cycles = Cycles::of(workload, nodes, load.tasks, runner.which(), rounds);
        if runner.which().is_counted() {
            cycles.commands = Some(commands_per_cycle(*runner, servers, load).await);
        }
        report.cycles.push(cycles);
    }
    let rounds_of = |which| {
        let found = runners.iter().position(|runner| runner.which() == which);
        found.map(|number| &done[number])
    };
    for (one, other) in PAIRS {
        let (Some(ones), Some(others)) = (rounds_of(one), rounds_of(other)) else {
            continue;
        };
        let both = |of: fn(&Round) -> f64| {
            let pairs = ones.iter().zip(others);
            pairs.map(move |(one, other)| of(one) / of(other))
        };
        let names = format!("{one}/{other}");
        report.ratio(workload, nodes, names.clone(), both(Round::rate));
        if workload == "B" {
            let names = format!("{names} CPU per cycle");
            report.ratio("F", nodes, names, both(Round::cpu_micros));
        }
    }
}

async fn connect(
    contenders: impl IntoIterator<Item = Which>,
    urls: &[String],
) -> Vec<Box<dyn Runner>> {
    let mut runners = Vec::new();
    for which in contenders {
        runners.push(which.connect(urls).await);
    }
    runners
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
async fn commands_per_cycle(runner: &dyn Runner, servers: &[RedisServer], load: Load) -> f64 {
    let before = servers::commands(servers);
    let time = load.time / 4;
    let round = runner.run(Load { time, ..load }).await;
    // What followed the quorum.
    tokio::time::sleep(Duration::from_millis(5)).await;
    (servers::commands(servers) - before) as f64 / round.cycles()
}

/// Allocations per cycle, if it allocates where they can be counted.
fn allocations(contender: &str, servers: &[RedisServer]) -> Option<f64> {
    if contender == Which::Node.name() {
        return None;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_allocations"))
        .arg(contender)
        .args(servers::urls(servers))
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    Some(said.trim().parse().expect("a number"))
}

/// What a cycle costs as there are more nodes, and more resources.
async fn growth(report: &mut Report, servers: &[RedisServer]) {
    let by_nodes = (1..=servers.len()).map(|nodes| ("A", nodes, 1));
    let by_tasks = [1, 10, 100, 1_000, 10_000].map(|tasks| ("B", 5, tasks));
    for (workload, nodes, tasks) in by_nodes.chain(by_tasks) {
        let urls = servers::urls(&servers[..nodes]);
        let runners = connect([Which::Ours, Which::Reference, Which::Floor], &urls).await;
        let runners: Vec<_> = runners.iter().map(AsRef::as_ref).collect();
        // So many at once take longer than that.
        let rounds = if tasks < 10_000 { 5 } else { 2 };
        let load = Load::new(tasks, Duration::from_millis(200));
        let done = interleave(&runners, load, rounds).await;
        for (runner, rounds) in runners.iter().zip(&done) {
            let cycles = Cycles::of(workload, nodes, tasks, runner.which(), rounds);
            report.growth.push(cycles);
        }
    }
}

/// Has so many wait for so many seconds.
async fn contend_all(
    report: &mut Report,
    servers: &[RedisServer],
    which: Which,
    all: impl IntoIterator<Item = (usize, u64)>,
) {
    if !which.is_available() {
        return;
    }
    for (waiting, seconds) in all {
        let time = Duration::from_secs(seconds);
        let contention = contention(servers, which, waiting, time).await;
        report.contended(servers.len(), contention);
    }
}

async fn fault_all(
    report: &mut Report,
    servers: &mut [RedisServer],
    which: Which,
    time: Duration,
    rounds: usize,
) {
    for it in faults(servers, which, time, rounds).await {
        report.at_fault(servers.len(), it);
    }
}

async fn cycles(which: &str, nodes: &str, tasks: &str, seconds: &str) {
    let servers = RedisServer::start_many(nodes.parse().expect("a number"));
    let which: Which = which.parse().expect("a contender");
    let runner = which.connect(&servers::urls(&servers)).await;
    let time = Duration::from_secs(seconds.parse().expect("a number"));
    let load = Load::new(tasks.parse().expect("a number"), time);
    let round = runner.run(load).await;
    let (rate, cpu) = (round.rate(), round.cpu_micros());
    println!("{which}: {rate:.0} cycles/s, {cpu:.1} µs CPU per cycle");
    round.failures.tell(which.name());
}

async fn contend(which: &str, resource: &str, hold: &str, urls: &[&str]) {
    let urls: Vec<_> = urls.iter().map(ToString::to_string).collect();
    let which: Which = which.parse().expect("a contender");
    let runner = which.connect(&urls).await;
    let warm = format!("warm:{}", process::id());
    let until = shared_now() + Duration::from_millis(20);
    runner
        .contend(&warm, Duration::ZERO, [Duration::ZERO, until])
        .await;
    println!("ready");
    let mut order = String::new();
    io::stdin().read_line(&mut order).expect("an order");
    let times = order
        .trim()
        .split(' ')
        .map(|nanos| nanos.parse().expect("nanoseconds"));
    let times: Vec<_> = times.map(Duration::from_nanos).collect();
    let hold = Duration::from_millis(hold.parse().expect("milliseconds"));
    let turns = runner.contend(resource, hold, [times[0], times[1]]).await;
    println!("{}", serde_json::to_string(&turns).expect("numbers"));
}
