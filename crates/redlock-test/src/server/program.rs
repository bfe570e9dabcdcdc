//! The server programs there are to test on.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{RedisCluster, RedisServer, SentinelConfig, SentinelGroup};

/// The environment variable that names a directory with a directory for each further server.
const DIRECTORY: &str = "REDLOCK_TEST_SERVERS";

/// A server program: the system's `redis-server`, or another version or kind of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    name: String,
    path: PathBuf,
}

impl Program {
    /// The `redis-server` on the `PATH`.
    #[must_use]
    pub fn system() -> Self {
        Self {
            name: "system".to_owned(),
            path: "redis-server".into(),
        }
    }

    /// The server of this name, such as `valkey-9.1`, in the directory that the environment variable
    /// `REDLOCK_TEST_SERVERS` names.
    ///
    /// # Panics
    ///
    /// When it is not there.
    #[must_use]
    pub fn named(name: &str) -> Self {
        directory()
            .and_then(|directory| Self::inside(&directory.join(name)))
            .unwrap_or_else(|| panic!("no server {name} in {DIRECTORY}; `make setup` fetches it"))
    }

    /// The system's server and every further one in the directory that the environment variable
    /// `REDLOCK_TEST_SERVERS` names; the system's alone if the variable is missing or empty.
    ///
    /// # Panics
    ///
    /// When the directory cannot be read.
    #[must_use]
    pub fn found() -> Vec<Self> {
        let mut further: Vec<_> = directory()
            .map(|directory| {
                fs::read_dir(&directory).unwrap_or_else(|error| {
                    panic!("{}: {error}; `make setup` fills it", directory.display())
                })
            })
            .into_iter()
            .flatten()
            .filter_map(|entry| Self::inside(&entry.expect("the directory is readable").path()))
            .collect();
        further.sort_by(|one, other| one.name.cmp(&other.name));
        further.insert(0, Self::system());
        further
    }

    fn inside(directory: &Path) -> Option<Self> {
        let name = directory.file_name()?.to_str()?.to_owned();
        let path = ["redis-server", "valkey-server"]
            .map(|executable| directory.join(executable))
            .into_iter()
            .find(|path| path.is_file())?;
        Some(Self { name, path })
    }

    /// What [`named`](Self::named) finds it by; `system` for the system's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The executable.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a server and waits until it accepts connections.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start(&self) -> RedisServer {
        self.start_with(&[])
    }

    /// Starts a server with further arguments, such as `--requirepass` and a password.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start_with(&self, args: &[&str]) -> RedisServer {
        RedisServer::launch_anywhere(self, &[], &|_| {
            args.iter().copied().map(Into::into).collect()
        })
    }

    /// Starts a cluster and waits until it answers for all slots.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start_cluster(&self) -> RedisCluster {
        RedisCluster::launch(self)
    }

    /// Starts a master with replicas and sentinels, and waits until the sentinels could do a failover.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start_sentinel(&self, config: &SentinelConfig<'_>) -> SentinelGroup {
        SentinelGroup::launch(self, config)
    }
}

fn directory() -> Option<PathBuf> {
    env::var_os(DIRECTORY)
        .filter(|directory| !directory.is_empty())
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn programs_are_found_by_their_names() {
        let found = Program::found();
        assert_eq!(found[0], Program::system());
        for program in &found[1..] {
            assert_eq!(program, &Program::named(program.name()));
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_said_with_what_fetches_it() {
        let panic = catch_unwind(|| Program::named("memcached")).unwrap_err();
        let said = panic.downcast::<String>().unwrap();
        assert!(said.contains("memcached"), "{said}");
        assert!(said.contains("make setup"), "{said}");
    }
}
