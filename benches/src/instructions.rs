//! How many instructions a cycle takes in the client, which no noise of the machine touches.

use std::{
    env,
    process::{Command, id},
    time::Duration,
};

use redlock_test::server::RedisServer;

use crate::{contender::Which, rounds::Load, servers::urls};

/// Two runs of different length; the difference is without what comes before the first cycle.
const CYCLES: [usize; 2] = [100, 600];

/// Counts those of workload A by callgrind and prints them.
///
/// # Panics
///
/// When valgrind is not installed.
pub fn all() {
    for nodes in [5, 3, 1] {
        let servers = RedisServer::start_many(nodes);
        for which in Which::ALL.into_iter().filter(|which| *which != Which::Node) {
            let [few, many] = CYCLES.map(|cycles| counted(which, cycles, &urls(&servers)));
            let each = (many - few) / (CYCLES[1] - CYCLES[0]) as u64;
            println!("A n={nodes} {which} {each} instructions per cycle");
        }
    }
}

fn counted(which: Which, cycles: usize, urls: &[String]) -> u64 {
    let out = env::temp_dir().join(format!("callgrind.{}", id()));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().expect("it runs"))
        .args(["count", which.name(), &cycles.to_string()])
        .args(urls)
        .output()
        .expect("valgrind is installed");
    let _ = std::fs::remove_file(out);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    let count = collected.and_then(|count| count.trim().parse().ok());
    count.unwrap_or_else(|| panic!("it does not say how many: {said}"))
}

/// Does so many cycles, for callgrind to count.
///
/// # Panics
///
/// Upon arguments that make no sense.
pub async fn count(which: &str, cycles: &str, urls: &[&str]) {
    let which: Which = which.parse().expect("a contender");
    let urls: Vec<_> = urls.iter().map(ToString::to_string).collect();
    let load = Load {
        tasks: 1,
        time: Duration::ZERO,
        cycles: cycles.parse().expect("a number"),
    };
    let round = which.connect(&urls).await.run(load).await;
    assert_eq!(round.failures.count, 0);
}
