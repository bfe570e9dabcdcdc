//! Real server processes on free loopback ports: single ones, clusters, and masters under Sentinel.

mod cluster;
mod config;
mod port;
mod process;
mod program;
mod sentinel;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

pub use cluster::RedisCluster;
use port::free_port;
use process::Process;
pub use program::Program;
pub use sentinel::{SentinelConfig, SentinelGroup};

/// A server process in a directory of its own, which ends with this value.
///
/// Its arguments are written to a configuration file, once: what it rewrites itself is still so after
/// a restart. Without persistence, unless its arguments say otherwise.
#[derive(Debug)]
pub struct RedisServer {
    program: Program,
    /// What stands after the configuration file on the command line.
    flags: &'static [&'static str],
    port: u16,
    password: Option<String>,
    dir: TempDir,
    process: Option<Process>,
}

impl RedisServer {
    /// Starts the system's `redis-server` and waits until it accepts connections.
    ///
    /// # Panics
    ///
    /// When there is no `redis-server`, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Program::system().start()
    }

    /// Starts `count` servers, each with [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_many(count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::start()).collect()
    }

    /// Starts the system's `redis-server` with further arguments, such as `--requirepass` and a password.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with(args: &[&str]) -> Self {
        Program::system().start_with(args)
    }

    /// Tries ports until one is free; the arguments may depend on it.
    fn launch_anywhere(
        program: &Program,
        flags: &'static [&'static str],
        args: &dyn Fn(u16) -> Vec<String>,
    ) -> Self {
        for _ in 0..10 {
            let port = free_port();
            let args = args(port);
            let mut server = Self {
                program: program.clone(),
                flags,
                port,
                password: config::password(&args).map(Into::into),
                dir: tempfile::tempdir().expect("a temporary directory"),
                process: None,
            };
            server.configure(args);
            // Somebody else may take the port between the search and the start.
            if server.launch() {
                return server;
            }
        }
        panic!("no free port for {}", program.name());
    }

    fn configure(&self, args: Vec<String>) {
        let port = self.port.to_string();
        let (dir, log) = (self.dir().display(), self.log_file());
        let mut all: Vec<String> = [
            ("--port", port),
            ("--bind", "127.0.0.1".to_owned()),
            ("--dir", dir.to_string()),
            ("--logfile", log.display().to_string()),
            ("--save", String::new()),
            ("--appendonly", "no".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        all.extend(args);
        fs::write(self.config_file(), config::lines(&all)).expect("the directory is writable");
    }

    /// Starts the system's `redis-server` so that it speaks TLS only, with this certificate and key,
    /// without asking clients for theirs.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), and when the server was built without TLS.
    #[must_use]
    pub fn start_tls(certificate: &str, key: &str) -> Self {
        Self::launch_anywhere(&Program::system(), &[], &|port| {
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
    /// With the password of the server's `--requirepass`, if there is one.
    ///
    /// # Panics
    ///
    /// When `redis-cli` cannot be run.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> String {
        self.cli_within("10", args)
    }

    /// [`cli`](Self::cli) of a server that may be paused: nothing after these seconds.
    fn cli_within(&self, seconds: &str, args: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("timeout")
            .args([seconds, "redis-cli", "-h", "127.0.0.1", "-p", &port])
            .args(args)
            .envs(self.password.iter().map(|it| ("REDISCLI_AUTH", it)))
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
        process.signal(signal);
    }

    fn config_file(&self) -> PathBuf {
        self.dir().join("config")
    }

    fn log_file(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// Whether the server came up; false if its port is taken.
    fn launch(&mut self) -> bool {
        let log = self.log_file();
        let _ = fs::remove_file(&log);
        let config = self.config_file();
        let flags = self.flags.iter().map(Path::new);
        let command_line = [config.as_path()].into_iter().chain(flags);
        self.process = Some(Process::spawn(self.program.path(), command_line));

        let started = eventually(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.contains("Address already in use") {
                return Some(false);
            }
            // The second is what a sentinel says.
            let up = ["eady to accept connections", "Sentinel ID is"];
            up.iter().any(|line| said.contains(line)).then_some(true)
        });
        if started == Some(false) {
            self.kill();
        }
        started.unwrap_or_else(|| {
            let said = fs::read_to_string(&log).unwrap_or_else(|_| {
                "no output; is it installed? `make setup` installs it".to_owned()
            });
            panic!("{} did not start: {said}", self.program.path().display());
        })
    }
}

/// Asks until there is an answer, for as long as a server may take to start or to stop on a loaded
/// machine.
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::process::{Pid, test_kill_process};

    use super::*;

    fn runs(pid: Pid) -> bool {
        test_kill_process(pid).is_ok()
    }

    fn pid(server: &RedisServer) -> Pid {
        server.process.as_ref().unwrap().pid
    }

    #[test]
    fn a_server_can_be_used_killed_and_restarted_on_its_port() {
        let mut server = RedisServer::start();
        assert_eq!(server.cli(&["SET", "k", "v"]), "OK");
        assert_eq!(server.keys(), ["k"]);
        let first = pid(&server);
        server.kill();
        assert!(!runs(first));
        server.restart();
        assert_eq!(server.keys(), [""; 0], "no persistence unless asked for");
    }

    #[test]
    fn what_a_server_rewrites_survives_its_restart() {
        let mut server = RedisServer::start_with(&["--requirepass", "two \"words\"", "--hz", "20"]);
        assert_eq!(server.cli(&["CONFIG", "SET", "hz", "50"]), "OK");
        assert_eq!(server.cli(&["CONFIG", "REWRITE"]), "OK");
        server.restart();
        assert_eq!(server.cli(&["CONFIG", "GET", "hz"]), "hz\n50");
    }

    #[test]
    fn servers_end_with_the_test_also_when_it_panics_and_also_when_paused() {
        let mut pids = Vec::new();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let server = RedisServer::start();
            let group = SentinelGroup::start();
            let all = [&server].into_iter().chain(group.servers());
            all.chain(group.sentinel_servers()).for_each(|server| {
                pids.push(pid(server));
                server.pause();
            });
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(pids.len(), 1 + 3 + 3);
        assert!(!pids.into_iter().any(runs));
    }
}
