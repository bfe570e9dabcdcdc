//! A master and its replicas under the watch of sentinels.

use std::{net::SocketAddr, time::Duration};

use super::{Program, RedisServer, config::password, eventually};

const SENTINELS: usize = 3;
const QUORUM: &str = "2";

/// What a [`SentinelGroup`] is like.
#[derive(Clone, Copy, Debug)]
pub struct SentinelConfig<'a> {
    /// What the sentinels call the master; `mymaster` unless told.
    pub master_name: &'a str,
    /// How many replicas there are; two unless told.
    pub replicas: usize,
    /// After how long a silent server counts as down; one second unless told.
    pub down_after: Duration,
    /// What a failover may take; after it has begun, none begins for twice this time. Three seconds
    /// unless told.
    pub failover_timeout: Duration,
    /// Further arguments of the master and the replicas.
    ///
    /// The replicas and the sentinels authenticate with the password of a `--requirepass` among them.
    pub args: &'a [&'a str],
    /// Further arguments of the sentinels, such as `--requirepass` and a password of their own, or
    /// `--sentinel`, `auth-user`, the master's name and a user.
    pub sentinel_args: &'a [&'a str],
}

impl Default for SentinelConfig<'_> {
    fn default() -> Self {
        Self {
            master_name: "mymaster",
            replicas: 2,
            down_after: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(3),
            args: &[],
            sentinel_args: &[],
        }
    }
}

/// A master with replicas and three sentinels, two of which have to agree that the master is down.
///
/// A former master that comes back takes itself for the master for about ten seconds, until the
/// sentinels make it a replica.
#[derive(Debug)]
pub struct SentinelGroup {
    master_name: String,
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl SentinelGroup {
    /// Starts a group of the system's `redis-server` and waits until the sentinels could do a failover.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        Program::system().start_sentinel(&SentinelConfig::default())
    }

    pub(super) fn launch(program: &Program, config: &SentinelConfig<'_>) -> Self {
        let servers = start_servers(program, config);
        let args = sentinel_args(config, &servers[0]);
        let start = |_| RedisServer::launch_anywhere(program, &["--sentinel"], &|_| args.clone());
        let group = Self {
            master_name: config.master_name.to_owned(),
            servers,
            sentinels: (0..SENTINELS).map(start).collect(),
        };
        for sentinel in &group.sentinels {
            let ready = eventually(|| group.is_ready(sentinel).then_some(()));
            assert!(
                ready.is_some(),
                "a sentinel does not see the group: {}",
                sentinel.cli(&["SENTINEL", "CKQUORUM", config.master_name])
            );
        }
        group
    }

    /// Whether this sentinel knows the others, knows that every replica follows the master, and finds
    /// nothing wrong with the master.
    fn is_ready(&self, sentinel: &RedisServer) -> bool {
        let ask = |what| sentinel.cli(&["SENTINEL", what, &self.master_name]);
        ask("CKQUORUM").starts_with(&format!("OK {SENTINELS} usable"))
            && ask("MASTER").contains("\nflags\nmaster\n")
            && ask("REPLICAS")
                .matches("\nmaster-link-status\nok\n")
                .count()
                == self.servers.len() - 1
    }

    /// What the sentinels call the master.
    #[must_use]
    pub fn master_name(&self) -> &str {
        &self.master_name
    }

    /// Where the sentinels listen.
    #[must_use]
    pub fn sentinels(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(RedisServer::address).collect()
    }

    /// Where the master listens, as most of the sentinels name it now.
    ///
    /// # Panics
    ///
    /// When they do not come to agree.
    #[must_use]
    pub fn master(&self) -> SocketAddr {
        eventually(|| self.named_by_most()).expect("most of the sentinels name the same master")
    }

    /// Waits until most of the sentinels name another master than this, and says which.
    ///
    /// # Panics
    ///
    /// When they do not.
    #[must_use]
    pub fn master_other_than(&self, old: SocketAddr) -> SocketAddr {
        eventually(|| self.named_by_most().filter(|master| *master != old))
            .expect("most of the sentinels name another master")
    }

    fn named_by_most(&self) -> Option<SocketAddr> {
        let named: Vec<_> = self
            .sentinels
            .iter()
            .filter_map(|sentinel| {
                // A test may have paused this one, and the others suffice.
                let args = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &self.master_name];
                let said = sentinel.cli_within("1", &args);
                said.replace('\n', ":").parse().ok()
            })
            .collect();
        let votes = |master: &SocketAddr| named.iter().filter(|named| *named == master).count();
        let most = |master: &SocketAddr| votes(master) > SENTINELS / 2;
        named.iter().copied().find(most)
    }

    /// Has a sentinel begin a failover although the master is well, and does not wait for its end.
    ///
    /// # Panics
    ///
    /// When none of them begins one.
    pub fn failover(&self) {
        let begun = eventually(|| {
            let args = ["SENTINEL", "FAILOVER", &self.master_name];
            self.sentinels
                .iter()
                .map(|sentinel| sentinel.cli_within("1", &args))
                .any(|said| said == "OK" || said.starts_with("INPROG"))
                .then_some(())
        });
        begun.expect("a sentinel begins a failover");
    }

    /// The master and the replicas, first the one that was the master at the start.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The master and the replicas, to kill and restart them.
    pub fn servers_mut(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// The master or replica that listens there.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn server_at(&mut self, address: SocketAddr) -> &mut RedisServer {
        self.servers
            .iter_mut()
            .find(|server| server.address() == address)
            .expect("a server of the group")
    }

    /// The sentinels' processes.
    #[must_use]
    pub fn sentinel_servers(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The sentinels' processes, to kill and restart them.
    pub fn sentinel_servers_mut(&mut self) -> &mut [RedisServer] {
        &mut self.sentinels
    }
}

/// Starts the master and the replicas and waits until these follow it, as the sentinels otherwise look
/// again only ten seconds later.
fn start_servers(program: &Program, config: &SentinelConfig<'_>) -> Vec<RedisServer> {
    let mut args = vec!["--repl-diskless-sync", "yes"];
    args.extend(["--repl-diskless-sync-delay", "0"]);
    if let Some(password) = password(config.args) {
        args.extend(["--masterauth", password]);
    }
    args.extend(config.args);
    let master = program.start_with(&args);
    let port = master.address().port().to_string();
    args.extend(["--replicaof", "127.0.0.1", &port]);
    let mut servers = vec![master];
    servers.extend((0..config.replicas).map(|_| program.start_with(&args)));

    let online = || {
        servers[0]
            .cli(&["INFO", "replication"])
            .matches("state=online")
            .count()
    };
    let follow = eventually(|| (online() == config.replicas).then_some(()));
    follow.expect("the replicas follow their master");
    servers
}

fn sentinel_args(config: &SentinelConfig<'_>, master: &RedisServer) -> Vec<String> {
    let name = config.master_name;
    let port = master.address().port().to_string();
    let millis = |time: Duration| time.as_millis().to_string();
    let down_after = millis(config.down_after);
    let failover_timeout = millis(config.failover_timeout);
    let mut args = vec!["--sentinel", "monitor", name, "127.0.0.1", &port, QUORUM];
    args.extend(["--sentinel", "down-after-milliseconds", name, &down_after]);
    args.extend(["--sentinel", "failover-timeout", name, &failover_timeout]);
    if let Some(password) = password(config.args) {
        args.extend(["--sentinel", "auth-pass", name, password]);
    }
    args.extend(config.sentinel_args);
    args.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_group_of_each_program_agrees_on_its_master_and_on_another_when_it_is_killed() {
        let check = |program: Program| {
            let mut group = program.start_sentinel(&SentinelConfig::default());
            let first = group.master();
            assert_eq!(first, group.servers()[0].address());
            group.server_at(first).kill();
            let second = group.master_other_than(first);
            let role = group.server_at(second).cli(&["ROLE"]);
            assert!(role.starts_with("master\n"), "{}: {role}", program.name());
        };
        thread::scope(|scope| {
            for program in Program::found() {
                scope.spawn(move || check(program));
            }
        });
    }

    #[test]
    fn a_group_with_a_name_passwords_and_few_replicas_fails_over_as_planned() {
        let mut group = Program::system().start_sentinel(&SentinelConfig {
            master_name: "locks",
            replicas: 1,
            args: &["--requirepass", "data", "--min-replicas-to-write", "1"],
            sentinel_args: &["--requirepass", "watch"],
            ..SentinelConfig::default()
        });
        assert_eq!(group.master_name(), "locks");
        let first = group.master();
        assert_eq!(group.server_at(first).cli(&["SET", "k", "v"]), "OK");
        group.failover();
        let second = group.master_other_than(first);
        assert_eq!(group.server_at(second).cli(&["GET", "k"]), "v");
    }
}
