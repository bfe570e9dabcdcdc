//! The clients, each a process of its own.

use std::{
    io,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};

use crate::record::Record;

/// How long a client may take to exit when it has been told to.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Crowd {
    clients: Vec<Child>,
    pids: Vec<Pid>,
    record: Arc<Mutex<Record>>,
    readers: JoinSet<Result<(), String>>,
}

impl Crowd {
    pub(crate) fn start(commands: impl IntoIterator<Item = Command>) -> io::Result<Self> {
        let start = |mut command: Command| {
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command.kill_on_drop(true).spawn()
        };
        let started = commands.into_iter().map(start);
        let mut clients = started.collect::<io::Result<Vec<_>>>()?;
        let record = Arc::new(Mutex::new(Record::new(clients.len())));
        let (mut readers, mut pids) = (JoinSet::new(), Vec::new());
        for (number, client) in clients.iter_mut().enumerate() {
            let said = client.stdout.take().expect("it is piped");
            readers.spawn(read(number, said, Arc::clone(&record)));
            let pid = client.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
            pids.push(pid.expect("it has just been started"));
        }
        Ok(Self {
            clients,
            pids,
            record,
            readers,
        })
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the process where it is, or lets it go on.
    pub(crate) fn signal(&self, client: usize, signal: Signal) {
        // One that has exited is noticed when all do.
        let _ = kill_process(self.pids[client], signal);
    }

    /// Ends the clients, and returns what they have said.
    pub(crate) async fn end(mut self) -> Result<Record, String> {
        for (number, client) in self.clients.iter_mut().enumerate() {
            if let Ok(Some(status)) = client.try_wait() {
                return Err(format!("client {number} has exited early: {status}"));
            }
        }
        for client in &mut self.clients {
            drop(client.stdin.take());
        }
        for client in &mut self.clients {
            let exited = timeout(PATIENCE, client.wait()).await;
            exited
                .map_err(|_| "a client does not exit with its input")?
                .map_err(|it| it.to_string())?;
        }
        for read in self.readers.join_all().await {
            read?;
        }
        let record = Arc::into_inner(self.record).expect("nobody reads any more");
        Ok(record.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn read(client: usize, said: ChildStdout, record: Arc<Mutex<Record>>) -> Result<(), String> {
    let mut lines = BufReader::new(said).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.add(client, &line)?;
    }
    Ok(())
}
