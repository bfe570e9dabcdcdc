//! Workload D: what one node of five costs the others that is hung, killed, or slow.

use std::{net::SocketAddr, time::Duration};

use redlock_test::server::RedisServer;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    contender::Which,
    rounds::{Load, Runner},
    servers::urls,
    stats::{Summary, quantile},
};

/// How late a slow node answers.
const SLOW: Duration = Duration::from_millis(50);
/// Within this time a node votes again that is well again.
const RECOVERY: Duration = Duration::from_millis(300);

/// What a fault cost.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// Who was measured.
    pub contender: &'static str,
    /// What one node was.
    pub fault: &'static str,
    /// The median acquire when all were healthy, in milliseconds.
    pub healthy_ms: Summary,
    /// The median acquire with the fault.
    pub faulty_ms: Summary,
    /// Of each round.
    pub ratio: Summary,
    /// How many locks could not be had.
    pub failures: usize,
}

/// Measures every fault in every round, another node's each time.
pub async fn faults(
    servers: &mut [RedisServer],
    which: Which,
    time: Duration,
    rounds: usize,
) -> Vec<Fault> {
    let usual = urls(servers);
    let mut with_slow = usual.clone();
    let slow = slow(servers[0].address()).await;
    with_slow[0] = format!("redis://{slow}");
    let runner = which.connect(&usual).await;
    let slowed = which.connect(&with_slow).await;
    let names = ["hung", "killed", "slow"];
    let (mut measured, mut failures) = (names.map(|_| Vec::new()), [0; 3]);
    for round in 0..rounds {
        for (number, name) in names.into_iter().enumerate() {
            let server = &mut servers[round % usual.len()];
            let (healthy, _) = median(runner.as_ref(), time).await;
            let (faulty, failed) = match name {
                "hung" => {
                    server.pause();
                    let faulty = median(runner.as_ref(), time).await;
                    server.resume();
                    faulty
                }
                "killed" => {
                    server.kill();
                    let faulty = median(runner.as_ref(), time).await;
                    server.restart();
                    faulty
                }
                _ => median(slowed.as_ref(), time).await,
            };
            sleep(RECOVERY).await;
            measured[number].push((healthy, faulty));
            failures[number] += failed;
        }
    }
    let judged = names.into_iter().zip(measured).zip(failures);
    judged
        .map(|((fault, measured), failures)| Fault {
            contender: which.name(),
            fault,
            healthy_ms: Summary::of(measured.iter().map(|(healthy, _)| *healthy)),
            faulty_ms: Summary::of(measured.iter().map(|(_, faulty)| *faulty)),
            ratio: Summary::of(measured.iter().map(|(healthy, faulty)| faulty / healthy)),
            failures,
        })
        .collect()
}

/// The median acquire in milliseconds, and how many failed.
async fn median(runner: &dyn Runner, time: Duration) -> (f64, usize) {
    let round = runner.run(Load::new(1, time)).await;
    let millis = round.acquires.iter().map(|it| it.as_secs_f64() * 1e3);
    let mut sorted: Vec<_> = millis.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    (quantile(&sorted, 0.5), round.failures)
}

/// Where the server answers later.
async fn slow(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(server).await else {
                continue;
            };
            let _ = server.set_nodelay(true).and(client.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(carry(from_client, to_server, Duration::ZERO));
            tokio::spawn(carry(from_server, to_client, SLOW));
        }
    });
    address
}

/// Carries what comes, each piece so much later.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut pieces) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let write = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    let read = async move {
        let mut piece = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let due = Instant::now() + delay;
            if sender.send((due, piece[..length].to_vec())).is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
