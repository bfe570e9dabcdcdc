//! What was measured, as a table, as JSON, and as ratios.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, thread};

use serde::Serialize;

use crate::{
    contend::Contention,
    contender::Which,
    fault::Fault,
    rounds::Round,
    stats::{Summary, quantile},
};

/// What one contender did in all rounds of a workload.
#[derive(Clone, Debug, Serialize)]
pub struct Cycles {
    /// The workload's name.
    pub workload: &'static str,
    /// On so many servers.
    pub nodes: usize,
    /// So many tasks at once.
    pub tasks: usize,
    /// Who.
    pub contender: &'static str,
    /// Cycles per second.
    pub rate: Summary,
    /// Microseconds of the client's processor per cycle.
    pub cpu_us: Summary,
    /// The median acquire, in microseconds.
    pub acquire_us: f64,
    /// Commands to all servers together per cycle, where they were counted.
    pub commands: Option<f64>,
    /// How many cycles failed.
    pub failures: usize,
}

impl Cycles {
    /// Of these rounds.
    #[must_use]
    pub fn of(
        workload: &'static str,
        nodes: usize,
        tasks: usize,
        which: Which,
        rounds: &[Round],
    ) -> Self {
        let acquires = rounds.iter().flat_map(|round| &round.acquires);
        let mut acquires: Vec<_> = acquires.map(|it| it.as_secs_f64() * 1e6).collect();
        acquires.sort_unstable_by(f64::total_cmp);
        Self {
            workload,
            nodes,
            tasks,
            contender: which.name(),
            rate: Summary::of(rounds.iter().map(Round::rate)),
            cpu_us: Summary::of(rounds.iter().map(Round::cpu_micros)),
            acquire_us: quantile(&acquires, 0.5),
            commands: None,
            failures: rounds.iter().map(|round| round.failures).sum(),
        }
    }
}

/// One contender beside another, round by round.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// The workload's name.
    pub workload: &'static str,
    /// On so many servers.
    pub nodes: usize,
    /// Who is measured by whom.
    pub names: String,
    /// The ratio within each round.
    pub ratio: Summary,
}

impl Ratio {
    /// Of what was measured of both in each round.
    #[must_use]
    pub fn of(
        workload: &'static str,
        nodes: usize,
        names: String,
        both: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        Self {
            workload,
            nodes,
            names,
            ratio: Summary::of(both.into_iter().map(|(one, other)| one / other)),
        }
    }

    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            workload,
            nodes,
            names,
            ratio,
        } = self;
        format!("{workload} n={nodes} {names} {:.2}", ratio.median)
    }
}

/// Everything of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// On a machine with so many cores.
    pub cores: usize,
    /// Workloads A, B and F.
    pub cycles: Vec<Cycles>,
    /// The cost as the number of nodes or of resources grows.
    pub growth: Vec<Cycles>,
    /// Who beside whom.
    pub ratios: Vec<Ratio>,
    /// Workload C.
    pub contention: Vec<Contention>,
    /// Workload D.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Nothing measured yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cores: thread::available_parallelism().map_or(1, Into::into),
            ..Self::default()
        }
    }

    /// Writes the table and the JSON into this directory.
    ///
    /// # Panics
    ///
    /// When it cannot be written to.
    pub fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("a directory");
        let json = serde_json::to_string_pretty(self).expect("numbers and names");
        fs::write(directory.join("locks.json"), json + "\n").expect("writable");
        fs::write(directory.join("locks.md"), self.table()).expect("writable");
    }

    fn table(&self) -> String {
        let mut table = String::new();
        self.tables(&mut table).expect("a string takes everything");
        table
    }

    fn tables(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# Benches\n")?;
        writeln!(
            out,
            "One run on {} cores, the servers on the same machine. Medians; spread: from the lower to the upper \
             quartile of the rounds, in percent of the median. Ratios are taken within each round.",
            self.cores
        )?;
        let mut workloads: BTreeMap<_, Vec<&Cycles>> = BTreeMap::new();
        for it in &self.cycles {
            let key = (it.workload, it.nodes, it.tasks);
            workloads.entry(key).or_default().push(it);
        }
        for ((workload, nodes, tasks), all) in workloads {
            writeln!(out, "\n## {workload}: {tasks} at once, {nodes} nodes\n")?;
            writeln!(
                out,
                "| contender | cycles/s | spread | median acquire | CPU per cycle | commands per cycle | failed |"
            )?;
            writeln!(out, "|---|--:|--:|--:|--:|--:|--:|")?;
            for it in all {
                let commands = it.commands.map_or(String::new(), |n| format!("{n:.1}"));
                writeln!(
                    out,
                    "| {} | {:.0} | {:.0} % | {:.0} µs | {:.1} µs | {commands} | {} |",
                    it.contender,
                    it.rate.median,
                    it.rate.spread(),
                    it.acquire_us,
                    it.cpu_us.median,
                    it.failures
                )?;
            }
        }
        self.other_tables(out)
    }

    fn other_tables(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## Ratios\n\n| | ratio | spread |\n|---|--:|--:|")?;
        for it in &self.ratios {
            let Ratio {
                workload,
                nodes,
                names,
                ratio,
            } = it;
            let (median, spread) = (ratio.median, ratio.spread());
            writeln!(
                out,
                "| {workload} n={nodes} {names} | {median:.2} | {spread:.0} % |"
            )?;
        }
        writeln!(
            out,
            "\n## C: processes that contend for one resource, five nodes\n\n| contender | processes | grants/s | \
             hand-off p50 | p99 | longest wait | of the fair share | commands per grant | overlaps |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for it in &self.contention {
            let [median, late] = it.hand_off_ms;
            writeln!(
                out,
                "| {} | {} | {:.0} | {median:.2} ms | {late:.2} ms | {:.0} ms | {:.1} | {:.0} | {} |",
                it.contender,
                it.processes,
                it.grants_per_second,
                it.longest_wait_ms,
                it.longest_wait_shares,
                it.commands_per_grant,
                it.overlaps
            )?;
        }
        writeln!(
            out,
            "\n## D: one node of five with a fault\n\n| contender | fault | healthy | faulty | ratio | failed |\n\
             |---|---|--:|--:|--:|--:|"
        )?;
        for it in &self.faults {
            writeln!(
                out,
                "| {} | {} | {:.3} ms | {:.3} ms | {:.2} | {} |",
                it.contender,
                it.fault,
                it.healthy_ms.median,
                it.faulty_ms.median,
                it.ratio.median,
                it.failures
            )?;
        }
        writeln!(
            out,
            "\n## Growth\n\n| workload | contender | nodes | at once | cycles/s | CPU per cycle and node |\n\
             |---|---|--:|--:|--:|--:|"
        )?;
        for it in &self.growth {
            let cpu = per_node(it);
            writeln!(
                out,
                "| {} | {} | {} | {} | {:.0} | {cpu:.1} µs |",
                it.workload, it.contender, it.nodes, it.tasks, it.rate.median
            )?;
        }
        Ok(())
    }
}

/// The client's microseconds per cycle and node.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub fn per_node(cycles: &Cycles) -> f64 {
    cycles.cpu_us.median / cycles.nodes as f64
}
