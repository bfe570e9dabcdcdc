//! Real `redis-server` processes on free loopback ports.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio, id},
    sync::atomic::{AtomicU16, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to start or to stop on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the server, says its process id, and ends it as soon as its own input ends: which it does
/// when the fixture is dropped and also when the test process dies in whatever way.
const WATCHDOG: &str = r#""$@" </dev/null >/dev/null 2>&1 & echo $!; read -r _; kill -9 $!; wait"#;

/// A `redis-server` process in a directory of its own, which ends with this value.
///
/// Without persistence, unless its arguments say otherwise.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    args: Vec<String>,
    dir: TempDir,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    watchdog: Child,
    /// Closing it ends the server.
    input: Option<ChildStdin>,
}

impl RedisServer {
    /// Starts a server and waits until it accepts connections.
    ///
    /// # Panics
    ///
    /// When there is no `redis-server`, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts `count` servers.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_many(count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::start()).collect()
    }

    /// Starts a server with further arguments, such as `--requirepass` and a password.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with(args: &[&str]) -> Self {
        Self::launch_anywhere(&|_| args.iter().copied().map(Into::into).collect())
    }

    /// Tries ports until one is free; the arguments may depend on it.
    fn launch_anywhere(args: &dyn Fn(u16) -> Vec<String>) -> Self {
        for _ in 0..10 {
            let port = free_port();
            let mut server = Self {
                port,
                args: args(port),
                dir: tempfile::tempdir().expect("a temporary directory"),
                process: None,
            };
            // Somebody else may take the port between the search and the start.
            if server.launch() {
                return server;
            }
        }
        panic!("no free port for redis-server");
    }

    /// Starts a server that speaks TLS only, with this certificate and key, without asking clients for
    /// theirs.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), and when the server was built without TLS.
    #[must_use]
    pub fn start_tls(certificate: &str, key: &str) -> Self {
        Self::launch_anywhere(&|port| {
            let port = port.to_string();
            let args = [
                "--port",
                "0",
                "--tls-port",
                &port,
                "--tls-auth-clients",
                "no",
                "--tls-cert-file",
                certificate,
                "--tls-key-file",
                key,
                "--tls-ca-cert-file",
                certificate,
            ];
            args.map(Into::into).to_vec()
        })
    }

    /// Starts the server again on its port and in its directory, after [`kill`](Self::kill).
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "port {} was taken meanwhile", self.port);
    }

    /// Stops the process where it is (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the process at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Where the server listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Its `redis://` URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The server's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the server answers to a command, as `redis-cli` prints it, without the last newline.
    ///
    /// # Panics
    ///
    /// When `redis-cli` cannot be run.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("timeout")
            .args(["10", "redis-cli", "-h", "127.0.0.1", "-p", &port])
            .args(args)
            .output()
            .expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    /// The keys on the server, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let listed = self.cli(&["--raw", "KEYS", "*"]);
        let mut keys: Vec<_> = listed
            .lines()
            .filter(|key| !key.is_empty())
            .map(Into::into)
            .collect();
        keys.sort();
        keys
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the server runs");
        kill_process(process.pid, signal).expect("the server can be signalled");
    }

    fn log_file(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// Whether the server came up; false if its port is taken.
    fn launch(&mut self) -> bool {
        let log = self.log_file();
        let _ = fs::remove_file(&log);
        let port = self.port.to_string();
        let defaults: [(&str, &OsStr); 6] = [
            ("--port", port.as_ref()),
            ("--bind", "127.0.0.1".as_ref()),
            ("--dir", self.dir().as_os_str()),
            ("--logfile", log.as_os_str()),
            ("--save", "".as_ref()),
            ("--appendonly", "no".as_ref()),
        ];
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "sh", "redis-server"])
            .args(
                defaults
                    .into_iter()
                    .flat_map(|(name, value)| [name.as_ref(), value]),
            )
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let input = watchdog.stdin.take();
        let mut line = String::new();
        BufReader::new(watchdog.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the watchdog says the process id");
        let pid = line
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        self.process = Some(Process {
            pid,
            watchdog,
            input,
        });

        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.contains("eady to accept connections") {
                return true;
            }
            if said.contains("Address already in use") {
                self.kill();
                return false;
            }
            sleep(Duration::from_millis(5));
        }
        let said = fs::read_to_string(&log).unwrap_or_else(|_| {
            "no output; is redis-server installed? `make setup` installs it".to_owned()
        });
        panic!("redis-server did not start: {said}");
    }
}

/// A Redis Cluster of three masters without replicas.
#[derive(Debug)]
pub struct RedisCluster(Vec<RedisServer>);

impl RedisCluster {
    /// Starts a cluster and waits until it answers for all slots.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        let start = |_| RedisServer::start_with(&["--cluster-enabled", "yes"]);
        let members: Vec<_> = (0..3).map(start).collect();
        let addresses: Vec<_> = members
            .iter()
            .map(|member| member.address().to_string())
            .collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.push("--cluster-yes");
        let said = members[0].cli(&create);
        let up = |member: &RedisServer| {
            member
                .cli(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok")
        };
        let deadline = Instant::now() + PATIENCE;
        while !members.iter().all(up) {
            assert!(
                Instant::now() < deadline,
                "the cluster did not form: {said}"
            );
            sleep(Duration::from_millis(50));
        }
        Self(members)
    }

    /// The members' URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.0.iter().map(RedisServer::url).collect()
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &[RedisServer] {
        &self.0
    }

    /// The members, to kill and restart them.
    pub fn members_mut(&mut self) -> &mut [RedisServer] {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.watchdog.wait();
    }
}

/// A port that is free now, below the range from which the system takes ports for outgoing
/// connections, so that it is still free when a server is restarted on it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 11_000;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = (id().wrapping_mul(131) + step) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("below 2^16");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::process::test_kill_process;

    use super::*;

    fn runs(pid: Pid) -> bool {
        test_kill_process(pid).is_ok()
    }

    #[test]
    fn a_server_can_be_used_killed_and_restarted_on_its_port() {
        let mut server = RedisServer::start();
        assert_eq!(server.cli(&["SET", "k", "v"]), "OK");
        assert_eq!(server.keys(), ["k"]);
        let first = server.process.as_ref().unwrap().pid;
        server.kill();
        assert!(!runs(first));
        server.restart();
        assert_eq!(server.keys(), [""; 0], "no persistence unless asked for");
    }

    #[test]
    fn servers_end_with_the_test_also_when_it_panics_and_also_when_paused() {
        let mut pid = None;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let server = RedisServer::start();
            pid = Some(server.process.as_ref().unwrap().pid);
            server.pause();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert!(!runs(pid.unwrap()));
    }
}
