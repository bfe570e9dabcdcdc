//! What was measured, as a table, as JSON, and as ratios.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    fs,
    path::Path,
    thread,
};

use serde::Serialize;

use crate::{
    contend::Contention,
    contender::Which,
    fault::Fault,
    kept::Kept,
    rounds::{Failures, Round},
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
    /// Allocations of the client per cycle, where they were counted.
    pub allocations: Option<f64>,
    /// Locks that could not be had, or were lost.
    pub failures: Failures,
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
        let failures = Failures::sum(rounds.iter().map(|round| &round.failures));
        failures.tell(&format!("{workload} n={nodes} {which}"));
        Self {
            workload,
            nodes,
            tasks,
            contender: which.name(),
            rate: Summary::of(rounds.iter().map(Round::rate)),
            cpu_us: Summary::of(rounds.iter().map(Round::cpu_micros)),
            acquire_us: quantile(&acquires, 0.5),
            commands: None,
            allocations: None,
            failures,
        }
    }

    /// The client's microseconds per cycle and node.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub fn cpu_us_per_node(&self) -> f64 {
        self.cpu_us.median / self.nodes as f64
    }
}

/// One measurement beside another.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// The workload's name.
    pub workload: &'static str,
    /// On so many servers.
    pub nodes: usize,
    /// Of what to what.
    pub of: String,
    /// The ratio within each round.
    pub ratio: Summary,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            workload,
            nodes,
            of,
            ratio,
        } = self;
        write!(f, "{workload} n={nodes} {of} {:.2}", ratio.median)
    }
}

/// Everything of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// On a machine with so many cores.
    pub cores: usize,
    /// One measurement beside another.
    pub ratios: Vec<Ratio>,
    /// Workloads A and B, and F of both.
    pub cycles: Vec<Cycles>,
    /// Workload C.
    pub contention: Vec<Contention>,
    /// Workload D.
    pub faults: Vec<Fault>,
    /// Workload E.
    pub kept: Option<Kept>,
    /// The cost as the number of nodes or of resources grows.
    pub growth: Vec<Cycles>,
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

    /// Prints and keeps a ratio that was measured so many times.
    pub fn ratio(
        &mut self,
        workload: &'static str,
        nodes: usize,
        of: String,
        measured: impl IntoIterator<Item = f64>,
    ) {
        let ratio = Ratio {
            workload,
            nodes,
            of,
            ratio: Summary::of(measured),
        };
        println!("{ratio}");
        self.ratios.push(ratio);
    }

    /// Keeps what came of processes that contended on so many servers, beside the same contender alone, and ours
    /// beside `rslock` where both wait with the same number.
    pub fn contended(&mut self, nodes: usize, it: Contention) {
        let (who, waiting) = (it.contender, it.waiting);
        it.failures
            .tell(&format!("C n={nodes} {who}, {waiting} waiting"));
        let find = |who: &str, waiting| {
            let mut all = self.contention.iter();
            all.find(|it| it.contender == who && it.waiting == waiting)
        };
        let mut ratios = Vec::new();
        if waiting > 0 {
            if let Some(alone) = find(who, 0) {
                let [median, late] = it.hand_off_acquires(alone);
                ratios.extend([
                    (format!("{who} grants/ideal"), it.of_ideal(alone)),
                    (format!("{who} hand-off p50/acquire"), median),
                    (format!("{who} hand-off p99/acquire"), late),
                    (
                        format!("{who} longest wait/fair share"),
                        it.longest_wait_shares,
                    ),
                ]);
                let commands = it.commands_per_grant;
                ratios.extend(commands.map(|n| (format!("{who} commands per grant/nodes"), n)));
            }
            if who == Which::Rslock.name()
                && let Some(ours) = find(Which::Ours.name(), waiting)
            {
                let [median, late] =
                    [0, 1].map(|part| ours.hand_off_ms[part] / it.hand_off_ms[part]);
                let grants = ours.grants_per_second / it.grants_per_second;
                ratios.extend([
                    ("ours/rslock grants".to_owned(), grants),
                    ("ours/rslock hand-off p50".to_owned(), median),
                    ("ours/rslock hand-off p99".to_owned(), late),
                ]);
            }
        }
        for (of, ratio) in ratios {
            self.ratio("C", nodes, format!("{of}, {waiting} waiting"), [ratio]);
        }
        self.contention.push(it);
    }

    /// Keeps what a fault cost.
    pub fn at_fault(&mut self, nodes: usize, it: Fault) {
        let of = format!("{} {}/healthy", it.contender, it.fault);
        it.failures.tell(&format!("D n={nodes} {of}"));
        self.ratio("D", nodes, of, it.ratios.iter().copied());
        self.faults.push(it);
    }

    /// Writes the table and the JSON into this directory.
    ///
    /// # Panics
    ///
    /// When it cannot be written to.
    pub fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("a directory");
        let json = serde_json::to_string_pretty(self).expect("numbers and names");
        fs::write(directory.join("results.json"), json + "\n").expect("writable");
        let mut table = String::new();
        self.table(&mut table).expect("a string takes everything");
        fs::write(directory.join("table.md"), table).expect("writable");
    }

    fn table(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "# Results\n")?;
        writeln!(
            out,
            "One run on {} cores, the servers on the same machine. Medians; spread: from the lower to the upper \
             quartile of the rounds, in percent of the median.",
            self.cores
        )?;
        self.cycle_tables(out)?;
        self.contention_table(out)?;
        self.fault_table(out)?;
        self.kept_table(out)?;
        self.growth_table(out)?;
        self.ratio_table(out)
    }

    fn cycle_tables(&self, out: &mut String) -> fmt::Result {
        let mut workloads: BTreeMap<_, Vec<&Cycles>> = BTreeMap::new();
        for it in &self.cycles {
            let key = (it.workload, it.nodes, it.tasks);
            workloads.entry(key).or_default().push(it);
        }
        for ((workload, nodes, tasks), all) in workloads {
            writeln!(
                out,
                "\n## {workload} and F: {tasks} at once, nodes: {nodes}\n\n| contender | cycles/s | spread | \
                 median acquire | CPU per cycle | allocations | commands | failed |\n|---|--:|--:|--:|--:|--:|--:|--:|"
            )?;
            for it in all {
                let [allocations, commands] = [it.allocations, it.commands]
                    .map(|n| n.map_or(String::new(), |n| format!("{n:.1}")));
                writeln!(
                    out,
                    "| {} | {:.0} | {:.0} % | {:.0} µs | {:.1} µs | {allocations} | {commands} | {} |",
                    it.contender,
                    it.rate.median,
                    it.rate.spread(),
                    it.acquire_us,
                    it.cpu_us.median,
                    it.failures.count
                )?;
            }
        }
        Ok(())
    }

    fn contention_table(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "\n## C: processes that contend for one resource, five nodes\n\n| contender | waiting | grants/s | \
             hand-off p50 | p99 | longest wait | commands per grant and node | overlaps | failed |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for it in &self.contention {
            // There is none where nobody waits.
            let [median, late] = it.hand_off_ms.map(|ms| match ms {
                ms if ms.is_nan() => String::new(),
                ms => format!("{ms:.2} ms"),
            });
            let commands = it.commands_per_grant;
            let commands = commands.map_or(String::new(), |n| format!("{n:.1}"));
            writeln!(
                out,
                "| {} | {} | {:.0} | {median} | {late} | {:.0} ms | {commands} | {} | {} |",
                it.contender,
                it.waiting,
                it.grants_per_second,
                it.longest_wait_ms,
                it.overlaps,
                it.failures.count
            )?;
        }
        Ok(())
    }

    fn fault_table(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "\n## D: the median acquire with one node of five at fault\n\n| contender | fault | healthy | faulty | \
             ratio | failed |\n|---|---|--:|--:|--:|--:|"
        )?;
        for it in &self.faults {
            writeln!(
                out,
                "| {} | {} | {:.3} ms | {:.3} ms | {:.2} | {} |",
                it.contender,
                it.fault,
                it.healthy_ms.median,
                it.faulty_ms.median,
                Summary::of(it.ratios.iter().copied()).median,
                it.failures.count
            )?;
        }
        Ok(())
    }

    fn kept_table(&self, out: &mut String) -> fmt::Result {
        let Some(it) = &self.kept else {
            return Ok(());
        };
        writeln!(
            out,
            "\n## E: {} locks kept alive, nodes: {}\n\n| | |\n|---|--:|",
            it.locks, it.nodes
        )?;
        writeln!(
            out,
            "| CPU of the process | {:.1} % of a core |",
            it.cpu_percent
        )?;
        writeln!(out, "| memory per lock | {} bytes |", it.bytes_per_lock)?;
        writeln!(out, "| tasks per lock | {:.2} |", it.tasks_per_lock)?;
        writeln!(
            out,
            "| renewals per second | {:.0} |",
            it.renewals_per_second
        )?;
        writeln!(
            out,
            "| commands per second | {:.0} |",
            it.commands_per_second
        )?;
        writeln!(
            out,
            "| largest delay of one | {:.1} ms |",
            it.largest_delay_ms
        )?;
        writeln!(out, "| lost | {} |", it.lost)
    }

    fn growth_table(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "\n## Growth\n\n| workload | contender | nodes | at once | cycles/s | CPU per cycle and node | failed |\n\
             |---|---|--:|--:|--:|--:|--:|"
        )?;
        for it in &self.growth {
            writeln!(
                out,
                "| {} | {} | {} | {} | {:.0} | {:.1} µs | {} |",
                it.workload,
                it.contender,
                it.nodes,
                it.tasks,
                it.rate.median,
                it.cpu_us_per_node(),
                it.failures.count
            )?;
        }
        Ok(())
    }

    fn ratio_table(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n## Ratios\n\n| | ratio | spread |\n|---|--:|--:|")?;
        for it in &self.ratios {
            let Ratio {
                workload,
                nodes,
                of,
                ratio,
            } = it;
            let (median, spread) = (ratio.median, ratio.spread());
            writeln!(
                out,
                "| {workload} n={nodes} {of} | {median:.2} | {spread:.0} % |"
            )?;
        }
        Ok(())
    }
}
