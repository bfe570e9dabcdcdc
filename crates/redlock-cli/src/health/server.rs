//! What a server says of itself.

use std::{collections::HashMap, time::Duration};

use redlock::{
    RedisNode,
    redis_rs::redis::{
        AsyncConnectionConfig, ConnectionInfo, FromRedisValue, RedisError, Value,
        aio::MultiplexedConnection, cmd,
    },
};
use tokio::time::Instant;

use super::{
    clocks::Reading,
    finding::{Finding, Notes, Severity},
    probe::advice,
};

/// For connecting, and for each answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// An acquisition that takes longer is noticed by people.
const SLOW: Duration = Duration::from_millis(100);

/// The least of several round trips is the truest.
const ROUNDS: usize = 3;

/// What stands for a server in the deployment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Alone,
    /// Of a cluster.
    Member,
    /// Of a group that sentinels watch.
    Master,
}

/// What was seen of a server.
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) run_id: Option<String>,
    pub(super) clock: Option<Reading>,
    pub(super) notes: Vec<Finding>,
}

impl Seen {
    /// Whether nothing could be asked.
    pub(super) fn is_silent(&self) -> bool {
        self.notes
            .iter()
            .any(|finding| finding.check == "reachable")
    }
}

/// Why there is no answer.
pub(super) enum Refusal {
    /// The server does not let us ask.
    Forbidden,
    Failed(RedisError),
}

/// A connection to ask questions on, none of which changes anything.
pub(super) struct Line(MultiplexedConnection);

impl Line {
    pub(super) async fn open(info: ConnectionInfo) -> Result<Self, RedisError> {
        let client = RedisNode::builder().client(info)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        let mut line = Self(connection.await?);
        match line.ask::<Value>("PING").await {
            Err(Refusal::Failed(error)) => Err(error),
            Ok(_) | Err(Refusal::Forbidden) => Ok(line),
        }
    }

    /// The answer to a command, whose words are parted by blanks.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &str) -> Result<T, Refusal> {
        let words: Vec<_> = command.split(' ').collect();
        self.ask_words(&words).await
    }

    pub(super) async fn ask_words<T: FromRedisValue>(
        &mut self,
        words: &[&str],
    ) -> Result<T, Refusal> {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.0).await.map_err(|error| {
            let detail = error.detail().unwrap_or_default();
            // Where a command is not to be used, it is often renamed away.
            if error.code() == Some("NOPERM") || detail.starts_with("unknown command") {
                Refusal::Forbidden
            } else {
                Refusal::Failed(error)
            }
        })
    }
}

impl Notes {
    /// That something could not be asked is no fault of the server.
    pub(super) fn refused(&mut self, check: &'static str, command: &str, refusal: &Refusal) {
        match refusal {
            Refusal::Forbidden => self.add(
                Severity::Ok,
                check,
                format!("not allowed to look: {command}"),
                Some(format!(
                    "let the user of the locks run {command}, or look yourself"
                )),
            ),
            Refusal::Failed(error) => self.warning(
                check,
                format!("{command} failed: {error}"),
                "look into the server's log",
            ),
        }
    }

    /// The server, or a sentinel, cannot be asked anything.
    pub(super) fn unreachable(&mut self, error: &RedisError) {
        let text = error.to_string();
        let advice = if error.is_timeout() || error.is_io_error() {
            "start the server, or correct its address"
        } else {
            advice(&text)
        };
        self.problem("reachable", format!("gives no answer: {text}"), advice);
    }
}

/// What it tells, by name.
struct Facts {
    info: HashMap<String, String>,
    settings: HashMap<String, String>,
}

impl Facts {
    /// From INFO, or else from CONFIG.
    fn get(&self, info: &str, setting: &str) -> Option<&str> {
        let told = self.info.get(info).or_else(|| self.settings.get(setting));
        told.map(String::as_str)
    }
}

/// Asks the server what matters to locks.
pub(super) async fn look(name: String, info: ConnectionInfo, place: Place, start: Instant) -> Seen {
    let mut notes = Notes::of(Some(name.clone()));
    let mut seen = Seen {
        name,
        run_id: None,
        clock: None,
        notes: Vec::new(),
    };
    match Line::open(info).await {
        Err(error) => notes.unreachable(&error),
        Ok(mut line) => {
            let facts = facts(&mut line, &mut notes).await;
            seen.run_id = facts.get("run_id", "").map(str::to_owned);
            kind(&facts, place, &mut notes);
            role(&mut line, &facts, place, &mut notes).await;
            seen.clock = clock(&mut line, start, &mut notes).await;
            persistence(&facts, &mut notes);
            eviction(&facts, &mut notes);
            if place == Place::Master {
                min_replicas(&facts, &mut notes);
            }
            commands(&mut line, &mut notes).await;
        }
    }
    seen.notes = notes.take();
    seen
}

async fn facts(line: &mut Line, notes: &mut Notes) -> Facts {
    let mut info = HashMap::new();
    match line.ask::<String>("INFO").await {
        Ok(text) => {
            let pairs = text.lines().filter_map(|line| line.split_once(':'));
            info.extend(pairs.map(|(name, fact)| (name.to_owned(), fact.to_owned())));
        }
        Err(refusal) => notes.refused("version", "INFO", &refusal),
    }
    let mut settings = HashMap::new();
    // One by one, as servers before 7.0 want it.
    for name in [
        "appendonly",
        "appendfsync",
        "maxmemory",
        "maxmemory-policy",
        "min-replicas-to-write",
    ] {
        let command = format!("CONFIG GET {name}");
        match line.ask::<HashMap<String, String>>(&command).await {
            Ok(told) => settings.extend(told),
            Err(refusal) => {
                notes.refused("settings", "CONFIG GET", &refusal);
                break;
            }
        }
    }
    Facts { info, settings }
}

/// What the server is, and whether it is listed as that.
fn kind(facts: &Facts, place: Place, notes: &mut Notes) {
    let valkey = facts.info.get("valkey_version");
    let redis = facts.info.get("redis_version");
    match (valkey, redis) {
        (Some(version), _) => notes.ok("version", format!("Valkey {version}")),
        (None, Some(version)) => notes.ok("version", format!("Redis {version}")),
        (None, None) => {}
    }
    let mode = facts
        .info
        .get("redis_mode")
        .or_else(|| facts.info.get("server_mode"));
    match (mode.map(String::as_str), place) {
        (Some("sentinel"), _) => notes.problem(
            "kind",
            "is a sentinel, and holds no locks",
            "list its group as sentinel://host:port,host:port/master",
        ),
        (Some("cluster"), Place::Alone | Place::Master) => notes.problem(
            "kind",
            "is a member of a cluster, and refuses resources in slots of others",
            "list the cluster as redis-cluster://host:port,host:port",
        ),
        (Some("standalone"), Place::Member) => notes.problem(
            "kind",
            "is no member of a cluster",
            "list it as redis://host:port",
        ),
        _ => {}
    }
}

async fn role(line: &mut Line, facts: &Facts, place: Place, notes: &mut Notes) {
    let role = match facts.info.get("role") {
        Some(role) => role.clone(),
        None => match line.ask::<Vec<Value>>("ROLE").await {
            Ok(told) => match told.first() {
                Some(Value::BulkString(role)) => String::from_utf8_lossy(role).into_owned(),
                _ => return,
            },
            Err(refusal) => return notes.refused("role", "ROLE", &refusal),
        },
    };
    match (role.as_str(), place) {
        ("slave", Place::Alone) => notes.problem(
            "role",
            "is a replica: it refuses to be written to, and only repeats another's vote",
            "list its master, or a server of its own",
        ),
        ("slave", Place::Master) => notes.problem(
            "role",
            "is a replica, though the sentinels call it the master",
            "wait for the failover to end, and check again",
        ),
        ("slave", Place::Member) => notes.ok("role", "replica"),
        (role, _) => notes.ok("role", role),
    }
    if facts.get("loading", "") == Some("1") {
        notes.problem(
            "role",
            "is loading its data, and refuses everything until then",
            "wait, and check again",
        );
    }
    if place == Place::Member {
        match line.ask::<String>("CLUSTER INFO").await {
            Ok(told) if told.contains("cluster_state:ok") => notes.ok("cluster", "serves"),
            Ok(_) => notes.problem(
                "cluster",
                "the cluster does not serve all slots",
                "see CLUSTER INFO and CLUSTER NODES there",
            ),
            // One that is no member has been told of already.
            Err(Refusal::Failed(_)) => {}
            Err(refusal) => notes.refused("cluster", "CLUSTER INFO", &refusal),
        }
    }
}

/// How long an answer takes, and what the clock shows meanwhile.
async fn clock(line: &mut Line, start: Instant, notes: &mut Notes) -> Option<Reading> {
    let mut best: Option<(Duration, Option<Reading>)> = None;
    let mut refused = false;
    for _ in 0..ROUNDS {
        let sent = Instant::now();
        let told = line.ask::<(i64, i64)>("TIME").await;
        let took = sent.elapsed();
        let reading = match told {
            Ok((seconds, micros)) => {
                let ours = (sent - start + took / 2).as_micros();
                let theirs = seconds.saturating_mul(1_000_000).saturating_add(micros);
                Some(Reading {
                    ahead: theirs.saturating_sub(i64::try_from(ours).unwrap_or(i64::MAX)),
                    within: took / 2,
                })
            }
            // Being refused takes as long as being told.
            Err(refusal) => {
                if !refused {
                    notes.refused("clock", "TIME", &refusal);
                }
                refused = true;
                None
            }
        };
        if best.is_none_or(|(least, _)| took < least) {
            best = Some((took, reading));
        }
    }
    let (took, reading) = best?;
    let text = format!("{took:.1?}");
    if took > SLOW {
        notes.warning(
            "latency",
            text,
            "place the server nearer, or find out what keeps it busy (SLOWLOG, LATENCY DOCTOR)",
        );
    } else {
        notes.ok("latency", text);
    }
    reading
}

fn persistence(facts: &Facts, notes: &mut Notes) {
    let appendonly = match facts.get("aof_enabled", "appendonly") {
        Some("1" | "yes") => true,
        Some(_) => false,
        None => return,
    };
    let down = "keep it down for as long as the longest ttl";
    if facts.get("rdb_last_bgsave_status", "") == Some("err") {
        notes.warning(
            "persistence",
            "the last snapshot failed, upon which a server refuses to be written to",
            "look into the server's log; free disk space, or set stop-writes-on-bgsave-error no",
        );
    }
    let fsync = facts.settings.get("appendfsync").map(String::as_str);
    match (appendonly, fsync) {
        (false, _) => notes.warning(
            "persistence",
            "appendonly no: it restarts without the locks that it had granted",
            format!("set appendonly yes and appendfsync always, or {down} before each start"),
        ),
        (true, Some("no")) => notes.warning(
            "persistence",
            "appendfsync no: it may forget many seconds of locks when its machine crashes",
            format!("set appendfsync always, or {down} after a crash"),
        ),
        (true, Some("everysec")) => notes.add(
            Severity::Ok,
            "persistence",
            "appendfsync everysec: it may forget a second of locks when its machine crashes"
                .to_owned(),
            Some(format!("{down} after a crash")),
        ),
        (true, fsync) => notes.ok(
            "persistence",
            format!("appendonly yes, appendfsync {}", fsync.unwrap_or("unknown")),
        ),
    }
}

fn eviction(facts: &Facts, notes: &mut Notes) {
    let Some(policy) = facts.get("maxmemory_policy", "maxmemory-policy") else {
        return;
    };
    if policy == "noeviction" {
        return notes.ok("eviction", "maxmemory-policy noeviction");
    }
    let advice = "set maxmemory-policy noeviction, or keep locks and caches on different servers";
    if facts.get("maxmemory", "maxmemory") == Some("0") {
        let found = format!(
            "maxmemory-policy {policy} would drop locks; it does not, as maxmemory is without limit"
        );
        notes.warning("eviction", found, advice);
    } else {
        let found = format!("maxmemory-policy {policy} drops locks when the memory is full");
        notes.problem("eviction", found, advice);
    }
}

fn min_replicas(facts: &Facts, notes: &mut Notes) {
    match facts.settings.get("min-replicas-to-write").map(String::as_str) {
        None => {}
        Some("0") => notes.warning(
            "replicas",
            "min-replicas-to-write 0: a master that was replaced goes on to grant locks to whoever still asks it",
            "set min-replicas-to-write 1 on all servers of the group",
        ),
        Some(count) => notes.ok("replicas", format!("min-replicas-to-write {count}")),
    }
}

/// Which ways there are to release and to extend.
async fn commands(line: &mut Line, notes: &mut Notes) {
    const NAMES: [&str; 3] = ["DELEX", "DELIFEQ", "MSETEX"];
    let asked = format!("COMMAND INFO {}", NAMES.join(" "));
    let known = match line.ask::<Vec<Value>>(&asked).await {
        Ok(told) => {
            let known = NAMES.into_iter().zip(told);
            let known =
                known.filter(|(_, told)| matches!(told, Value::Array(it) if !it.is_empty()));
            let known: Vec<_> = known.map(|(name, _)| name).collect();
            let text = match &known[..] {
                [] => "no native commands; scripts do the same".to_owned(),
                some => format!("native: {}", some.join(", ")),
            };
            notes.ok("commands", text);
            Some(known)
        }
        Err(refusal) => {
            notes.refused("commands", "COMMAND INFO", &refusal);
            None
        }
    };
    let releases = known.is_none_or(|known| known.iter().any(|it| it.starts_with("DEL")));
    match line.ask_words::<Value>(&["EVAL", "return 1", "0"]).await {
        Ok(_) => notes.ok("scripts", "allowed"),
        Err(Refusal::Forbidden) if releases => notes.warning(
            "scripts",
            "not allowed: several resources cannot be extended together, and one only if the server has SET IFEQ",
            "allow the user of the locks to run EVAL and EVALSHA",
        ),
        Err(Refusal::Forbidden) => notes.problem(
            "scripts",
            "not allowed, and there is no other way to release a lock",
            "allow the user of the locks to run EVAL and EVALSHA",
        ),
        Err(refusal) => notes.refused("scripts", "EVAL", &refusal),
    }
}

#[cfg(test)]
mod fuzz;
