//! node-redlock, in a process of its own.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use serde::Deserialize;
use tokio::{process::Command, sync::Mutex};

use super::Which;
use crate::{
    contend::{Process, Turns},
    rounds::{Failures, Load, Round, Runner},
};

/// Where libraries of other languages are installed, if they are.
fn peers() -> Option<OsString> {
    let peers = env::var_os("REDLOCK_TEST_PEERS")?;
    let installed = Path::new(&peers).join("node_modules/redlock").is_dir();
    installed.then_some(peers)
}

pub(super) fn is_installed() -> bool {
    peers().is_some()
}

/// The script that is a contender in Node.js.
pub(crate) fn script() -> Command {
    let mut command = Command::new("node");
    command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("locks.mjs"));
    command
}

pub(super) struct Peer(Mutex<Process>);

impl Peer {
    pub(super) fn start(urls: &[String]) -> Self {
        let process = Process::spawn(script().arg("rounds").args(urls));
        Self(Mutex::new(process))
    }
}

/// What the script tells of a round.
#[derive(Deserialize)]
struct Told {
    acquires_us: Vec<u64>,
    failures: Failures,
    elapsed_us: u64,
    cpu_us: u64,
}

impl Runner for Peer {
    fn which(&self) -> Which {
        Which::Node
    }

    fn run(&self, load: Load) -> BoxFuture<'_, Round> {
        async move {
            let mut process = self.0.lock().await;
            let order = format!("{} {}\n", load.tasks, load.time.as_millis());
            process.order(&order).await;
            let told: Told = process.answer().await;
            let acquires = told.acquires_us.into_iter();
            Round {
                acquires: acquires.map(Duration::from_micros).collect(),
                failures: told.failures,
                elapsed: Duration::from_micros(told.elapsed_us),
                cpu: Duration::from_micros(told.cpu_us),
            }
        }
        .boxed()
    }

    fn contend<'a>(&'a self, _: &'a str, _: Duration, _: [Duration; 2]) -> BoxFuture<'a, Turns> {
        unreachable!("its script does that")
    }
}
