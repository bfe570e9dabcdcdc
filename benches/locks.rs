//! The contenders beside each other, all workloads: a table, JSON and plots in `results/`.
//!
//! `quick` prints ratios alone. `cycles CONTENDER NODES TASKS SECONDS` runs one contender, for a profile;
//! `instructions` counts what a cycle takes, by callgrind.

use std::{env, io, path::Path, process, time::Duration};

use benches::{
    contend::{Contention, contention},
    contender::Which,
    cpu::shared_now,
    fault::{Fault, faults},
    instructions,
    plot::plots,
    report::{Cycles, Ratio, Report},
    rounds::{Load, Round, Runner, interleave},
    servers,
};
use redlock_test::server::RedisServer;
use tokio::runtime::{Builder, Runtime};

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
    for nodes in [5, 3, 1] {
        for (workload, tasks) in [("A", 1), ("B", 64)] {
            let load = Load::new(tasks, Duration::from_millis(500));
            compare(
                &mut report,
                workload,
                &servers[..nodes],
                &Which::ALL,
                load,
                15,
            )
            .await;
        }
    }
    growth(&mut report, &servers).await;
    for which in [Which::Ours, Which::Fred, Which::Rslock, Which::Node] {
        if !which.is_available() {
            continue;
        }
        for processes in [1, 2, 8, 20] {
            let time = Duration::from_secs(if processes > 8 { 10 } else { 6 });
            let contention = contention(&servers[..5], which, processes, time).await;
            print_contention(&contention);
            report.contention.push(contention);
        }
    }
    for which in [Which::Ours, Which::Fred] {
        let faults = faults(&mut servers[..5], which, Duration::from_secs(2), 5).await;
        faults.iter().for_each(print_fault);
        report.faults.extend(faults);
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
        (3, &over_redis_rs[..3], 5),
        (1, &over_redis_rs[..3], 5),
    ];
    for (nodes, contenders, rounds) in plan {
        for (workload, tasks) in [("A", 1), ("B", 64)] {
            let load = Load::new(tasks, Duration::from_millis(120));
            compare(
                &mut report,
                workload,
                &servers[..nodes],
                contenders,
                load,
                rounds,
            )
            .await;
        }
    }
    let time = Duration::from_millis(1_500);
    let alone = contention(&servers, Which::Ours, 1, time).await;
    let eight = contention(&servers, Which::Ours, 8, 2 * time).await;
    println!("C n=5 grants/ideal {:.2}", eight.of_ideal(&alone));
    println!(
        "C n=5 hand-off/acquire {:.1}",
        eight.hand_off_ms[0] / alone.acquire_ms
    );
    let faults = faults(&mut servers, Which::Ours, Duration::from_millis(300), 3).await;
    faults.iter().for_each(print_fault);
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
    let urls = servers::urls(servers);
    let mut runners: Vec<Box<dyn Runner>> = Vec::new();
    for which in contenders.iter().filter(|which| which.is_available()) {
        runners.push(which.connect(&urls).await);
    }
    let runners: Vec<_> = runners.iter().map(AsRef::as_ref).collect();
    let done = interleave(&runners, load, rounds).await;
    let nodes = servers.len();
    for (runner, rounds) in runners.iter().zip(&done) {
        let mut cycles = Cycles::of(workload, nodes, load.tasks, runner.which(), rounds);
        if runner.which() != Which::Memory {
            cycles.commands = Some(commands_per_cycle(*runner, servers, load).await);
        }
        if cycles.failures > 0 {
            eprintln!(
                "{workload} n={nodes} {}: {} failed",
                cycles.contender, cycles.failures
            );
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
        let both = |of: fn(&Round) -> f64| ones.iter().map(of).zip(others.iter().map(of));
        let names = format!("{one}/{other}");
        let mut ratios = vec![Ratio::of(workload, nodes, names.clone(), both(Round::rate))];
        if workload == "B" && other == Which::Rslock {
            ratios.push(Ratio::of("F", nodes, names, both(Round::cpu_micros)));
        }
        ratios.iter().for_each(|ratio| println!("{}", ratio.line()));
        report.ratios.extend(ratios);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
async fn commands_per_cycle(runner: &dyn Runner, servers: &[RedisServer], load: Load) -> f64 {
    let before = servers::commands(servers);
    let time = load.time / 4;
    let round = runner.run(Load { time, ..load }).await;
    // What followed the quorum.
    tokio::time::sleep(Duration::from_millis(5)).await;
    (servers::commands(servers) - before) as f64 / round.cycles as f64
}

/// What a cycle costs as there are more nodes, and more resources.
async fn growth(report: &mut Report, servers: &[RedisServer]) {
    let contenders = [Which::Ours, Which::Reference, Which::Floor];
    let by_nodes = (1..=servers.len()).map(|nodes| ("A", nodes, 1));
    let by_tasks = [1, 10, 100, 1_000, 10_000].map(|tasks| ("B", 5, tasks));
    for (workload, nodes, tasks) in by_nodes.chain(by_tasks) {
        let urls = servers::urls(&servers[..nodes]);
        let mut runners: Vec<Box<dyn Runner>> = Vec::new();
        for which in contenders {
            runners.push(which.connect(&urls).await);
        }
        let runners: Vec<_> = runners.iter().map(AsRef::as_ref).collect();
        let millis = if tasks < 1_000 { 300 } else { 1_500 };
        let load = Load::new(tasks, Duration::from_millis(millis));
        let done = interleave(&runners, load, 5).await;
        for (runner, rounds) in runners.iter().zip(&done) {
            let cycles = Cycles::of(workload, nodes, tasks, runner.which(), rounds);
            let (rate, cpu) = (cycles.rate.median, cycles.cpu_us.median);
            let who = cycles.contender;
            println!(
                "{workload} n={nodes} tasks={tasks} {who}: {rate:.0}/s, {cpu:.1} µs CPU per cycle"
            );
            report.growth.push(cycles);
        }
    }
}

fn print_contention(it: &Contention) {
    let [median, late] = it.hand_off_ms;
    println!(
        "C n=5 {} of {}: {:.0} grants/s, hand-off p50 {median:.2} ms, p99 {late:.2} ms, longest wait {:.0} ms \
         ({:.1} fair shares), {:.0} commands per grant, {} overlaps",
        it.processes,
        it.contender,
        it.grants_per_second,
        it.longest_wait_ms,
        it.longest_wait_shares,
        it.commands_per_grant,
        it.overlaps
    );
}

fn print_fault(it: &Fault) {
    println!("D n=5 {}/healthy {:.2}", it.fault, it.ratio.median);
}

async fn cycles(which: &str, nodes: &str, tasks: &str, seconds: &str) {
    let servers = RedisServer::start_many(nodes.parse().expect("a number"));
    let which: Which = which.parse().expect("a contender");
    let runner = which.connect(&servers::urls(&servers)).await;
    let time = Duration::from_secs(seconds.parse().expect("a number"));
    let load = Load::new(tasks.parse().expect("a number"), time);
    let round = runner.run(load).await;
    let (rate, cpu) = (round.rate(), round.cpu_micros());
    println!(
        "{which}: {rate:.0} cycles/s, {cpu:.1} µs CPU per cycle, {} failures",
        round.failures
    );
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
    turns.iter().for_each(|turn| println!("{}", turn.line()));
}
