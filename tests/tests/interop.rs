//! Drivers exclude each other on the same servers, and can be mixed in one Redlock.

use std::sync::Arc;

use redlock::{
    FredNode, LockBackend, LockValue, MemoryBackend, RedisNode, Redlock, Resources, SentinelNode,
    Vote,
};
use redlock_test::server::{Program, SentinelConfig};
use tests::{TTL, fred_client, fred_pool, patient, pool_by, sentinels};

type Driver = (&'static str, Arc<dyn LockBackend>);

fn driver(name: &'static str, backend: impl LockBackend) -> Driver {
    (name, Arc::new(backend))
}

fn programs() -> Vec<Program> {
    ["valkey-9.1", "redis-6.2"]
        .map(Program::named)
        .into_iter()
        .chain([Program::system()])
        .collect()
}

/// Whoever takes it, everybody else is refused, and who is told the value can extend and release it.
async fn each_excludes_every_other(program: &Program, drivers: &[Driver]) {
    for (one, holder) in drivers {
        for (other, rival) in drivers {
            let pair = format!("{one} and {other} on {}", program.name());
            for names in [&["{t}a"][..], &["{t}a", "{t}b", "{t}c"]] {
                let resources = Resources::new(names.iter().copied()).unwrap();
                let (ours, theirs) = (LockValue::random(), LockValue::random());
                let vote = holder.acquire(&resources, &ours, TTL).await;
                assert_eq!(vote.unwrap(), Vote::Granted, "{pair}");
                for name in names {
                    let part = Resources::new([*name, "{t}other"]).unwrap();
                    for taken in [&resources, &part] {
                        let vote = rival.acquire(taken, &theirs, TTL).await;
                        assert_eq!(vote.unwrap(), Vote::Refused, "{pair}");
                    }
                }
                let vote = rival.release(&resources, &theirs).await;
                assert_eq!(vote.unwrap(), Vote::Refused, "{pair}");
                let vote = rival.extend(&resources, &ours, 2 * TTL).await;
                assert_eq!(vote.unwrap(), Vote::Granted, "{pair}");
                let vote = rival.release(&resources, &ours).await;
                assert_eq!(vote.unwrap(), Vote::Granted, "{pair}");
                let vote = holder.release(&resources, &ours).await;
                assert_eq!(vote.unwrap(), Vote::Refused, "{pair}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_driver_locks_out_every_other_on_one_server() {
    for program in programs() {
        let group = program.start_sentinel(&SentinelConfig::default());
        let url = group.servers()[0].url();
        let drivers = [
            driver("redis-rs", RedisNode::new(url.as_str()).unwrap()),
            driver("deadpool", pool_by(patient(), &url, 2)),
            driver(
                "sentinel",
                SentinelNode::new(sentinels(&group), "mymaster").unwrap(),
            ),
            driver("fred", FredNode::new(&url).unwrap()),
            driver("fred's client", fred_client(FredNode::builder(), &url)),
            driver("fred's pool", fred_pool(FredNode::builder(), &url, 2)),
        ];
        each_excludes_every_other(&program, &drivers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_driver_locks_out_every_other_on_one_cluster() {
    for program in programs() {
        let cluster = program.start_cluster();
        let url = cluster.urls()[0].replace("redis://", "redis-cluster://");
        let drivers = [
            driver("redis-rs", RedisNode::from_cluster(cluster.urls()).unwrap()),
            driver("fred", FredNode::new(url).unwrap()),
        ];
        each_excludes_every_other(&program, &drivers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_all_kinds_make_one_redlock() {
    let group = Program::system().start_sentinel(&SentinelConfig::default());
    let cluster = Program::named("redis-6.2").start_cluster();
    let (plain, other) = (
        Program::system().start(),
        Program::named("valkey-9.1").start(),
    );
    let nodes: Vec<Arc<dyn LockBackend>> = vec![
        Arc::new(RedisNode::new(plain.url()).unwrap()),
        Arc::new(FredNode::new(other.url()).unwrap()),
        Arc::new(SentinelNode::new(sentinels(&group), "mymaster").unwrap()),
        Arc::new(RedisNode::from_cluster(cluster.urls()).unwrap()),
        Arc::new(MemoryBackend::new()),
    ];
    let redlock = Redlock::builder(nodes).retry_count(0).build().unwrap();
    for names in [&["a"][..], &["{a}", "{a}b"]] {
        let mut lock = redlock.acquire(names, TTL).await.unwrap();
        assert!(redlock.try_acquire(names, TTL).await.is_err());
        lock.extend(TTL).await.unwrap();
        lock.release().await.unwrap();
    }
    // Two of five may be gone.
    drop((plain, other));
    let lock = redlock.acquire("b", TTL).await.unwrap();
    lock.release().await.unwrap();
}
