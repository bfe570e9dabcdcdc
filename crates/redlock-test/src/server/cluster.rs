//! A Redis Cluster of real servers.

use super::{Program, RedisServer, eventually};

/// A Redis Cluster of three masters without replicas.
#[derive(Debug)]
pub struct RedisCluster(Vec<RedisServer>);

impl RedisCluster {
    /// Starts a cluster of the system's `redis-server` and waits until it answers for all slots.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        Program::system().start_cluster()
    }

    pub(super) fn launch(program: &Program) -> Self {
        let start = |_| program.start_with(&["--cluster-enabled", "yes"]);
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
        assert!(
            eventually(|| members.iter().all(up).then_some(())).is_some(),
            "the cluster did not form: {said}"
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_forms_of_each_program() {
        for program in Program::found() {
            let cluster = program.start_cluster();
            let slots = cluster.members()[1].cli(&["CLUSTER", "INFO"]);
            assert!(slots.contains("cluster_slots_ok:16384"), "{slots}");
        }
    }
}
