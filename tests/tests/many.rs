//! Very many locks at once on real servers. A process of its own, as it takes the machine for itself.

use std::time::Duration;

use redlock::Error;
use redlock_test::server::RedisServer;
use tests::{TTL, builder, eventually_clean};

#[tokio::test]
async fn ten_thousand_concurrent_acquires() {
    let servers = RedisServer::start_many(3);
    let patience = Duration::from_secs(60);
    let redlock = builder(&servers).node_timeout(patience).build().unwrap();
    let tasks: Vec<_> = (0..10_000)
        .map(|number| {
            let redlock = redlock.clone();
            tokio::spawn(async move {
                let lock = redlock.try_acquire(format!("r{number}"), TTL * 6).await?;
                lock.release().await
            })
        })
        .collect();
    let mut released = 0;
    for task in tasks {
        // A loaded machine may be slow to answer 60,000 commands at once; it may not be wrong.
        match task.await.unwrap() {
            Ok(()) => released += 1,
            Err(Error::NoQuorum(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(released > 5_000, "{released}");
    eventually_clean(&servers).await;
}
