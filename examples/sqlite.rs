//! A lock on nodes that are not Redis: `cargo run --example sqlite [DIRECTORY]`.
//!
//! The nodes are five `SQLite` databases in the directory, and everyone on this machine who uses the same directory is
//! excluded, other processes too. The backend is `src/sqlite.rs`. That all its nodes share one disk is good enough
//! to look at: nodes worth having fail independently.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use examples::sqlite::SqliteNode;
use redlock::Redlock;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os()
        .nth(1)
        .map_or_else(|| env::temp_dir().join("redlock-sqlite"), PathBuf::from);
    fs::create_dir_all(&directory)?;
    println!("nodes: five databases in {}\n", directory.display());

    // Each with connections of its own, as two processes have.
    let alice = redlock(&directory)?;
    let bob = redlock(&directory)?;
    let ttl = Duration::from_secs(10);

    let acquired = alice.acquire("orders:42", ttl).await;
    let mut lock = acquired.map_err(|error| format!("alice: {error}"))?;
    println!("alice acquired {}", lock.resources());

    match bob.try_acquire("orders:42", ttl).await {
        Ok(_) => return Err("two hold the same lock".into()),
        Err(error) => println!("bob tries: {error}"),
    }

    lock.extend(2 * ttl).await?;
    println!("alice extended it, valid for {:.1?} now", lock.validity());

    lock.release().await?;
    println!("alice released it");

    let lock = bob.acquire("orders:42", ttl).await?;
    println!("bob acquired {}", lock.resources());
    lock.release().await?;
    Ok(())
}

fn redlock(directory: &Path) -> Result<Redlock, Box<dyn Error>> {
    let node = |number| SqliteNode::open(directory.join(format!("node-{number}.db")));
    let nodes = (1..=5).map(node).collect::<Result<Vec<_>, _>>()?;
    Ok(Redlock::new(nodes)?)
}
