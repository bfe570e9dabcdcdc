//! Listening to a sentinel for as long as a connection to the master lives.

use std::time::Duration;

use futures_util::StreamExt;
use redis::{Client, RedisResult, aio::PubSub};
use redlock_redis_rs::Retire;
use tokio::time::{sleep, timeout};

use crate::group::{Group, within};

/// What a sentinel publishes when it knows of another master. The one that leads a failover knows it a
/// second before it says so, at the promotion.
const EVENTS: [&str; 2] = ["+promoted-slave", "+switch-master"];

/// How often a sentinel is asked all the same: an event may be lost with a connection. Also the pause before
/// a sentinel is called again that is not there.
const EVERY: Duration = Duration::from_secs(1);

/// Gives the connection up as soon as the sentinel knows a newer epoch; ends with the connection.
pub(crate) async fn watch(group: Group, sentinel: Client, epoch: u64, connection: Retire) {
    while !connection.is_retired() {
        // Whatever goes wrong, the sentinel is called again.
        let _ = listen(&group, &sentinel, epoch, &connection).await;
        if !connection.is_retired() {
            sleep(EVERY).await;
        }
    }
}

async fn listen(
    group: &Group,
    sentinel: &Client,
    epoch: u64,
    connection: &Retire,
) -> RedisResult<()> {
    let mut events = within(EVERY, subscribe(sentinel)).await?.into_on_message();
    let mut answers = group.call(sentinel).await?;
    // Asked at first, and then upon every event: what comes between is missed by neither.
    while !connection.is_retired() {
        let master = group.ask(&mut answers).await?;
        if master.epoch > epoch {
            // What is older than another sentinel's word ends this connection no less.
            let _ = group.learn(&master);
            connection.retire();
            break;
        }
        if let Ok(None) = timeout(EVERY, events.next()).await {
            break;
        }
    }
    Ok(())
}

async fn subscribe(sentinel: &Client) -> RedisResult<PubSub> {
    let mut events = sentinel.get_async_pubsub().await?;
    events.subscribe(&EVENTS[..]).await?;
    Ok(events)
}
