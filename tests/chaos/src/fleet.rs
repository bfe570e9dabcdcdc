//! Five servers, each behind a proxy.

use std::io;

use redlock_test::{proxy::Proxy, server::RedisServer};
use tokio::task::block_in_place;

pub(crate) const NODES: usize = 5;

pub(crate) struct Fleet {
    servers: Vec<RedisServer>,
    proxies: Vec<Proxy>,
}

impl Fleet {
    /// Servers that remember everything when they restart, or nothing.
    pub(crate) async fn start(persistent: bool) -> io::Result<Self> {
        let args: &[&str] = if persistent {
            &["--appendonly", "yes", "--appendfsync", "always"]
        } else {
            &["--save", "", "--appendonly", "no"]
        };
        let start = || (0..NODES).map(|_| RedisServer::start_with(args)).collect();
        let servers: Vec<_> = block_in_place(start);
        let mut proxies = Vec::new();
        for server in &servers {
            proxies.push(Proxy::start(server.address()).await?);
        }
        Ok(Self { servers, proxies })
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.proxies.iter().map(Proxy::url).collect()
    }

    /// Kills them all, and only then starts them again.
    pub(crate) fn restart(&mut self, nodes: &[usize]) {
        block_in_place(|| {
            for &node in nodes {
                self.servers[node].kill();
            }
            for &node in nodes {
                self.servers[node].restart();
            }
        });
    }

    pub(crate) fn pause(&self, nodes: &[usize]) {
        for &node in nodes {
            self.servers[node].pause();
        }
    }

    pub(crate) fn resume(&self, nodes: &[usize]) {
        for &node in nodes {
            self.servers[node].resume();
        }
    }

    /// Does this to the proxies of these nodes.
    pub(crate) fn network(&self, nodes: &[usize], what: impl Fn(&Proxy)) {
        for &node in nodes {
            what(&self.proxies[node]);
        }
    }
}
