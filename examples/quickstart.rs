//! A first look: acquire, contention, extension, release.
//!
//! `cargo run --example quickstart` uses five nodes in memory. With `redis://…` URLs as arguments it does the
//! same on real servers.

use std::{env, error::Error, process::ExitCode, sync::Arc, time::Duration};

use redlock::{LockBackend, MemoryBackend, RedisNode, Redlock};

#[tokio::main]
async fn main() -> ExitCode {
    match run(env::args().skip(1).collect()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            explain(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(urls: Vec<String>) -> Result<(), Box<dyn Error>> {
    let redlock = Redlock::new(nodes(urls)?)?;
    let names: Vec<_> = redlock.nodes().collect();
    println!(
        "nodes: {}; {} of them must grant\n",
        names.join(", "),
        redlock.quorum()
    );
    let ttl = Duration::from_secs(10);

    let mut lock = redlock.acquire("orders:42", ttl).await?;
    println!("acquired {} for {:.2?}", lock.resources(), lock.validity());

    match redlock.try_acquire("orders:42", ttl).await {
        Ok(_) => return Err("two hold the same lock".into()),
        Err(error) => println!("somebody else tries: {error}"),
    }

    lock.extend(2 * ttl).await?;
    println!("extended, valid for {:.2?} now", lock.validity());

    // Right before what must not happen twice:
    lock.check()?;
    println!("the order is charged, once");

    lock.release().await?;
    println!("released: the lock was ours until now");

    let lock = redlock.acquire(["account:1", "account:2"], ttl).await?;
    println!("acquired {} together", lock.resources());
    lock.release().await?;
    Ok(())
}

fn nodes(urls: Vec<String>) -> Result<Vec<Arc<dyn LockBackend>>, Box<dyn Error>> {
    if urls.is_empty() {
        return Ok((0..5)
            .map(|_| Arc::new(MemoryBackend::new()) as _)
            .collect());
    }
    let node = |url: String| Ok(Arc::new(RedisNode::new(url)?) as _);
    urls.into_iter().map(node).collect()
}

/// Says what went wrong, and what each node answered.
fn explain(error: &(dyn Error + 'static)) {
    let votes = error
        .downcast_ref::<redlock::Error>()
        .and_then(redlock::Error::votes);
    match votes {
        None => eprintln!("failed: {error}"),
        Some(votes) => {
            eprintln!(
                "failed: {} of {} nodes granted",
                votes.granted(),
                votes.nodes()
            );
            votes.iter().for_each(|vote| eprintln!("  {vote}"));
        }
    }
}
