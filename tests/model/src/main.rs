//! Explores configurations, one line each: all small ones, `large`, or those that are named, with their
//! counterexamples.

use std::{env, process::ExitCode, time::Instant};

use redlock_model::catalogue::{Case, large, small};

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).collect();
    let cases = match wanted.as_slice() {
        [] => small(),
        [all] if all == "large" => large(),
        names => {
            let mut cases = small();
            cases.extend(large());
            cases.retain(|case| names.iter().any(|name| name == case.name));
            cases
        }
    };
    if cases.is_empty() {
        eprintln!("no configuration of this name");
        return ExitCode::FAILURE;
    }
    let with_steps = !wanted.is_empty();
    let failed = cases
        .iter()
        .filter(|case| !passes(case, with_steps))
        .count();
    if failed > 0 {
        eprintln!("{failed} not as expected");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn passes(case: &Case, with_steps: bool) -> bool {
    let started = Instant::now();
    let report = case.explore();
    let seconds = started.elapsed().as_secs_f64();
    println!("{:40} {report}, {seconds:.1} s", case.name);
    if let Some(it) = report.counterexample.as_ref().filter(|_| with_steps) {
        println!("    {}", it.steps.join("\n    "));
    }
    match case.complaint(&report) {
        Some(complaint) => {
            println!("NOT AS EXPECTED: {complaint}");
            false
        }
        None => true,
    }
}
