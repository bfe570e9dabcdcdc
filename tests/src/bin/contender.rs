//! One of several processes that increment a counter file under a lock.
//!
//! `contender DIRECTORY TASKS INCREMENTS URL...`: exits with 0 when every increment was made alone.

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    path::Path,
    time::Duration,
};

use redlock::{Error, NodeInspection, Redlock};
use tokio::{task::JoinSet, time::sleep};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut args = env::args().skip(1);
    let mut next = || args.next().ok_or("too few arguments");
    let (directory, tasks, increments) = (next()?, next()?.parse()?, next()?.parse()?);
    let redlock = Redlock::new(tests::nodes(args))?;
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        running.spawn(increment(redlock.clone(), directory.clone(), increments));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    // A release returns with a quorum. What is left of the last one would end with the process; an inspection queues
    // behind it.
    let unanswered = |it: &NodeInspection| it.answer().is_err();
    while redlock.inspect("counter").await?.iter().any(unanswered) {}
    Ok(())
}

async fn increment(
    redlock: Redlock,
    directory: String,
    increments: usize,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (counter, inside) = (
        Path::new(&directory).join("counter"),
        Path::new(&directory).join("inside"),
    );
    for _ in 0..increments {
        let patience = std::iter::from_fn(|| Some(Duration::from_millis(5 + rand())));
        let lock = redlock
            .acquire_with_retry("counter", tests::TTL, patience)
            .await?;
        fs::File::create_new(&inside).map_err(|error| format!("two are inside: {error}"))?;
        let count: u64 = fs::read_to_string(&counter)?.parse()?;
        sleep(Duration::from_millis(1)).await;
        lock.check()?;
        fs::write(&counter, (count + 1).to_string())?;
        fs::remove_file(&inside)?;
        match lock.release().await {
            // Unknown on a loaded machine: what counts is the counter.
            Ok(()) | Err(Error::NoQuorum(_)) => {}
            Err(lost) => return Err(lost.into()),
        }
    }
    Ok(())
}

/// A few milliseconds, to part the contenders.
fn rand() -> u64 {
    RandomState::new().hash_one(()) % 10
}
