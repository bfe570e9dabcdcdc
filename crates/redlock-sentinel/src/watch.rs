//! Listening to the sentinels for as long as a connection to the master lives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use redis::{Client, Msg, RedisResult};
use redlock_redis_rs::Retire;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    belief::Master,
    group::{Group, address_of, within},
};

/// What a sentinel publishes when it knows of another master. The one that leads a failover knows it a
/// second before it says so, at the promotion.
const EVENTS: [&str; 2] = ["+promoted-slave", "+switch-master"];

/// How often a sentinel is asked all the same: an event may be lost with a connection. Also the pause before
/// a sentinel is called again that is not there.
const EVERY: Duration = Duration::from_secs(1);

/// How long a connection is trusted while less than a majority of the sentinels answers: who is cut off from
/// them, perhaps together with the master, does not learn that it was replaced.
const UNWATCHED: Duration = Duration::from_secs(3);

/// For how long the votes of a former master may be counted: until the last sentinel has heard of the new one, of
/// which they tell each other every two seconds, and for as long as a connection is trusted.
pub(crate) const LINGERING: Duration = UNWATCHED.saturating_mul(3);

/// The watch over one connection.
pub(crate) struct Watch {
    group: Group,
    master: Master,
    connection: Retire,
    start: Instant,
    /// When each sentinel was asked that has answered, in milliseconds since the start: the answer may have
    /// waited for us.
    heard: Vec<AtomicU64>,
}

impl Watch {
    /// Begins it: a task for each sentinel, which ends with the connection.
    ///
    /// They named the master when they were asked at `start`.
    pub(crate) fn begin(
        group: &Group,
        master: Master,
        connection: Retire,
        start: Instant,
    ) -> Arc<Self> {
        let watch = Arc::new(Self {
            group: group.clone(),
            master,
            connection,
            start,
            heard: group
                .sentinels()
                .iter()
                .map(|_| AtomicU64::new(0))
                .collect(),
        });
        for number in 0..watch.heard.len() {
            tokio::spawn(Arc::clone(&watch).over(number));
        }
        watch
    }

    async fn over(self: Arc<Self>, number: usize) {
        while !self.has_ended() {
            let sentinel = &self.group.sentinels()[number];
            if let Err(error) = self.listen(number, sentinel).await {
                let sentinel = address_of(sentinel);
                tracing::debug!(sentinel, %error, "a sentinel does not answer");
            }
            for _ in 0..4 {
                if !self.has_ended() {
                    sleep(EVERY / 4).await;
                }
            }
        }
    }

    async fn listen(&self, number: usize, sentinel: &Client) -> RedisResult<()> {
        let mut answers = self.group.call(sentinel).await?;
        let mut events = match within(EVERY, subscribe(sentinel)).await {
            Ok(events) => events.left_stream(),
            Err(error) => {
                let sentinel = address_of(sentinel);
                tracing::warn!(sentinel, %error, "not told of failovers, but asking every second");
                stream::pending().right_stream()
            }
        };
        // Asked at first, and then upon every event: what comes between is missed by neither.
        loop {
            let asked = self.millis();
            let named = self.group.ask(&mut answers).await?;
            self.heard[number].store(asked, Relaxed);
            if !self.stands(named).await {
                self.connection.retire();
                return Ok(());
            }
            for _ in 0..4 {
                match timeout(EVERY / 4, events.next()).await {
                    Ok(Some(_)) => break,
                    Ok(None) => return Ok(()),
                    Err(_) if self.has_ended() => return Ok(()),
                    Err(_) => {}
                }
            }
        }
    }

    /// Whether the connection still leads to the master, as a sentinel has just named this one.
    async fn stands(&self, named: Master) -> bool {
        if named == self.master {
            self.group.hear(&named);
            return true;
        }
        if named.epoch > self.master.epoch {
            self.group.learn(named);
            return false;
        }
        // It may be behind the others, or the only one that is not.
        match self.group.look().await {
            Ok(believed) => believed == self.master,
            Err(_) => true,
        }
    }

    /// Whether the connection has ended; it does when too few sentinels answer.
    ///
    /// To be asked for every vote: after a pause of this process nobody may have looked yet.
    pub(crate) fn has_ended(&self) -> bool {
        let limit = u64::try_from(UNWATCHED.as_millis()).unwrap_or(u64::MAX);
        let since = self.millis().saturating_sub(limit);
        let heard = self.heard.iter();
        let answering = heard.filter(|at| at.load(Relaxed) >= since).count();
        if answering < self.group.majority() {
            self.connection.retire();
        }
        self.connection.is_retired()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

async fn subscribe(sentinel: &Client) -> RedisResult<impl Stream<Item = Msg> + use<>> {
    let mut events = sentinel.get_async_pubsub().await?;
    events.subscribe(&EVENTS[..]).await?;
    Ok(events.into_on_message())
}
