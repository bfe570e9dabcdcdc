//! node-redlock, in a process of its own that is told what to do line by line.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

use super::Which;
use crate::{
    contend::Turn,
    rounds::{Load, Round, Runner},
};

/// Where libraries of other languages are installed, if they are.
#[must_use]
pub fn peers() -> Option<OsString> {
    let peers = env::var_os("REDLOCK_TEST_PEERS")?;
    let installed = Path::new(&peers).join("node_modules/redlock").is_dir();
    installed.then_some(peers)
}

/// The script that is a contender in Node.js.
#[must_use]
pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("locks.mjs")
}

pub(super) struct Peer(Mutex<Process>);

struct Process {
    _child: Child,
    orders: ChildStdin,
    results: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    pub(super) fn start(urls: &[String]) -> Self {
        let mut child = Command::new("node")
            .arg(script())
            .arg("rounds")
            .args(urls)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js is installed");
        let orders = child.stdin.take().expect("piped");
        let results = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self(Mutex::new(Process {
            _child: child,
            orders,
            results,
        }))
    }
}

impl Runner for Peer {
    fn which(&self) -> Which {
        Which::Node
    }

    fn run(&self, load: Load) -> BoxFuture<'_, Round> {
        async move {
            let mut process = self.0.lock().await;
            let order = format!("{} {}\n", load.tasks, load.time.as_millis());
            let told = process.orders.write_all(order.as_bytes()).await;
            told.expect("it listens");
            let line = process.results.next_line().await.expect("it tells");
            parsed(&line.expect("it goes on")).expect("five numbers")
        }
        .boxed()
    }

    fn contend<'a>(
        &'a self,
        _: &'a str,
        _: Duration,
        _: [Duration; 2],
    ) -> BoxFuture<'a, Vec<Turn>> {
        unreachable!("its script does that")
    }
}

/// Cycles, failures, microseconds, microseconds of the processor, and the median acquire in microseconds.
fn parsed(line: &str) -> Option<Round> {
    let mut numbers = line.split(' ').map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let (cycles, failures) = (next()?.try_into().ok()?, next()?.try_into().ok()?);
    let [elapsed, cpu, acquire] = [next()?, next()?, next()?].map(Duration::from_micros);
    Some(Round {
        cycles,
        failures,
        elapsed,
        cpu,
        acquires: vec![acquire],
    })
}
