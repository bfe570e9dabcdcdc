//! Every driver keeps the contract on every server.

use std::sync::LazyLock;

use redlock::{FredNode, RedisNode, SentinelNode};
use redlock_test::{
    conformance,
    conformance::Subject,
    server::{Program, RedisCluster, RedisServer, SentinelConfig, SentinelGroup},
};
use tests::{begun::Begun, fred_client, fred_pool, patient, patient_fred, pool_by, sentinels};

/// One test of each clause for each driver; `$program` makes the server program.
macro_rules! on {
    ($server:ident, $program:expr) => {
        mod $server {
            use super::*;

            // Ends with the process, as nobody drops it.
            static SERVER: LazyLock<RedisServer> = LazyLock::new(|| $program.start());
            static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(|| $program.start_cluster());
            static GROUP: LazyLock<SentinelGroup> =
                LazyLock::new(|| $program.start_sentinel(&SentinelConfig::default()));

            mod redis_rs {
                use super::*;

                fn node() -> RedisNode {
                    patient().open(SERVER.url()).expect("a URL")
                }

                conformance!(Subject::new(node()).peer(node()));
            }

            mod begun {
                use super::*;

                fn node() -> Begun<RedisNode> {
                    Begun(patient().open(SERVER.url()).expect("a URL"))
                }

                conformance!(Subject::new(node()).peer(node()));
            }

            mod deadpool {
                use super::*;

                fn node(size: usize) -> RedisNode {
                    pool_by(patient(), &SERVER.url(), size)
                }

                conformance!(Subject::new(node(4)).peer(node(1)));
            }

            mod cluster {
                use super::*;

                fn node() -> RedisNode {
                    patient().cluster(CLUSTER.urls()).expect("URLs")
                }

                conformance!(Subject::new(node()).peer(node()));
            }

            mod fred {
                use super::*;

                fn node() -> FredNode {
                    patient_fred().open(SERVER.url()).expect("a URL")
                }

                conformance!(Subject::new(node()).peer(node()));
            }

            mod fred_client_and_pool {
                use super::*;

                conformance!(
                    Subject::new(fred_client(patient_fred(), &SERVER.url())).peer(fred_pool(
                        patient_fred(),
                        &SERVER.url(),
                        3
                    ))
                );
            }

            mod fred_pool_and_client {
                use super::*;

                conformance!(
                    Subject::new(fred_pool(patient_fred(), &SERVER.url(), 3))
                        .peer(fred_client(patient_fred(), &SERVER.url()))
                );
            }

            mod fred_cluster {
                use super::*;

                fn url() -> String {
                    CLUSTER.urls()[0].replace("redis://", "redis-cluster://")
                }

                conformance!(
                    Subject::new(fred_client(patient_fred(), &url()))
                        .peer(patient_fred().open(url()).expect("a URL"))
                );
            }

            mod sentinel {
                use super::*;

                fn node() -> SentinelNode {
                    let node = SentinelNode::builder().settings(patient());
                    node.open(sentinels(&GROUP), GROUP.master_name())
                        .expect("URLs")
                }

                conformance!(Subject::new(node()).peer(node()));
            }
        }
    };
}

on!(redis, Program::system());
on!(valkey_9_1, Program::named("valkey-9.1"));
on!(redis_6_2, Program::named("redis-6.2"));
