//! Hands a lock over to another process: `cargo run --example handover -- redis://… redis://… redis://…`.
//!
//! The first process acquires the lock and gives it away; the second, started by the first, knows the resource and
//! gets the value, takes the lock over, and releases it.

use std::{env, error::Error, process::Stdio, time::Duration};

use redlock::{LockValue, RedisNode, Redlock};
use tokio::process::Command;

const RESOURCE: &str = "report";
const TTL: Duration = Duration::from_secs(10);
/// Through which the value is passed: unlike an argument, it is not shown by `ps`.
const VALUE: &str = "REDLOCK_VALUE";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let urls: Vec<_> = env::args().skip(1).collect();
    let nodes = urls.iter().map(|url| RedisNode::new(url.as_str()));
    let redlock = Redlock::new(nodes.collect::<Result<Vec<_>, _>>()?)?;
    match env::var(VALUE) {
        Err(_) => first(&redlock, &urls).await,
        Ok(value) => second(&redlock, value.parse()?).await,
    }
}

async fn first(redlock: &Redlock, urls: &[String]) -> Result<(), Box<dyn Error>> {
    let lock = redlock.acquire(RESOURCE, TTL).await?;
    println!("first: acquired {}", lock.resources());
    // From here on it is not released, whatever becomes of this process.
    let value = lock.leak();
    let second = Command::new(env::current_exe()?)
        .args(urls)
        .env(VALUE, value.as_str())
        .stdin(Stdio::null())
        .spawn()?;
    println!("first: gave it away");
    let status = second.wait_with_output().await?.status;
    if !status.success() {
        return Err("the second process failed".into());
    }
    redlock.try_acquire(RESOURCE, TTL).await?.release().await?;
    println!("first: it is free again");
    Ok(())
}

async fn second(redlock: &Redlock, value: LockValue) -> Result<(), Box<dyn Error>> {
    let lock = redlock.adopt(RESOURCE, value, TTL).await?;
    println!(
        "second: holds {} for {:.1?}",
        lock.resources(),
        lock.validity()
    );
    lock.release().await?;
    println!("second: released it");
    Ok(())
}
