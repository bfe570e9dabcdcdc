//! Every configuration that is explored, and what has to come of it.

use crate::{
    explore::{Model, Report, explore},
    fence::{self, Clocks, Fence},
    guard::{self, Guard},
    lock::{self, Lock},
};

/// One configuration of one model.
pub struct Case {
    /// For the protocol itself what it is isolated to, for a broken one its flaw.
    pub name: &'static str,
    /// Whether the invariants have to hold; otherwise a counterexample has to be found.
    pub holds: bool,
    explore: Box<dyn Fn() -> Report>,
}

impl Case {
    /// Explores it.
    #[must_use]
    pub fn explore(&self) -> Report {
        (self.explore)()
    }

    /// What is wrong with this report of it, if anything is.
    #[must_use]
    pub fn complaint(&self, report: &Report) -> Option<String> {
        match &report.counterexample {
            Some(it) if self.holds => {
                Some(format!("broken: {}\n{}", it.broken, it.steps.join("\n")))
            }
            None if !self.holds => Some("no counterexample found".into()),
            None if !report.missed.is_empty() => Some(format!("never seen: {:?}", report.missed)),
            _ => None,
        }
    }

    fn new<M: Model + 'static>(name: &'static str, holds: bool, model: M) -> Self {
        Self {
            name,
            holds,
            explore: Box::new(move || explore(&model)),
        }
    }
}

/// Those that take seconds, all of which are tests.
#[must_use]
pub fn small() -> Vec<Case> {
    [locks(), lock_flaws(), fences(), fence_flaws(), guards()]
        .into_iter()
        .flatten()
        .collect()
}

/// Those with more of everything, which take a minute and some gigabytes.
#[must_use]
pub fn large() -> Vec<Case> {
    vec![
        lock(
            "three_clients_extend",
            lock::Bounds {
                clients: 3,
                extensions: 1,
                ..LOCK
            },
        ),
        lock(
            "two_nodes_restart_during_extensions",
            lock::Bounds {
                extensions: 1,
                restarts: 2,
                ..LOCK
            },
        ),
        fence(
            "three_proposals_outlive_fences",
            fence::Bounds {
                proposals: 3,
                time: 4,
                clocks: Clocks::Together,
                expiry: true,
                ..FENCE
            },
        ),
        fence(
            "three_proposals_long_after_a_restart",
            fence::Bounds {
                proposals: 3,
                time: 4,
                ..RESTARTED
            },
        ),
        guard(
            "three_promotions_and_two_restarts",
            guard::Bounds {
                restarts: 2,
                promotions: 3,
            },
        ),
    ]
}

const LOCK: lock::Bounds = lock::Bounds {
    clients: 2,
    attempts: 1,
    extensions: 0,
    restarts: 0,
};
const EXTENDED: lock::Bounds = lock::Bounds {
    extensions: 1,
    ..LOCK
};
const TWICE: lock::Bounds = lock::Bounds {
    attempts: 2,
    ..LOCK
};

fn lock(name: &'static str, bounds: lock::Bounds) -> Case {
    Case::new(name, true, Lock { bounds, flaw: None })
}

fn locks() -> Vec<Case> {
    vec![
        lock("two_clients_attempt_twice", TWICE),
        lock(
            "two_clients_attempt_twice_and_extend",
            lock::Bounds {
                extensions: 1,
                ..TWICE
            },
        ),
        lock(
            "three_clients_attempt_once",
            lock::Bounds { clients: 3, ..LOCK },
        ),
        lock(
            "locks_are_extended_twice",
            lock::Bounds {
                extensions: 2,
                ..LOCK
            },
        ),
        lock(
            "a_node_restarts_during_extensions",
            lock::Bounds {
                restarts: 1,
                ..EXTENDED
            },
        ),
        lock(
            "two_nodes_restart",
            lock::Bounds {
                restarts: 2,
                ..LOCK
            },
        ),
    ]
}

fn lock_flaws() -> Vec<Case> {
    use lock::Flaw;
    let case = |name, bounds, flaw| {
        Case::new(
            name,
            false,
            Lock {
                bounds,
                flaw: Some(flaw),
            },
        )
    };
    vec![
        case("half_is_a_quorum", LOCK, Flaw::HalfIsAQuorum),
        case("release_without_value", TWICE, Flaw::ReleaseWithoutValue),
        case("value_reused", TWICE, Flaw::ValueReused),
        case("validity_unchecked", LOCK, Flaw::ValidityUnchecked),
        case(
            "clock_started_after_the_replies",
            LOCK,
            Flaw::ClockStartedAfterReplies,
        ),
        case("drift_missing", LOCK, Flaw::DriftMissing),
        case(
            "extension_counted_from_its_reply",
            EXTENDED,
            Flaw::ExtensionCountedFromReply,
        ),
        case(
            "extension_granted_when_sent",
            EXTENDED,
            Flaw::ExtensionGrantedWhenSent,
        ),
        case(
            "extension_without_value",
            EXTENDED,
            Flaw::ExtensionWithoutValue,
        ),
        case("extension_revives", EXTENDED, Flaw::ExtensionRevives),
        case("late_extension", EXTENDED, Flaw::LateExtension),
        case(
            "restart_without_delay",
            lock::Bounds {
                restarts: 1,
                ..LOCK
            },
            Flaw::RestartWithoutDelay,
        ),
        case("stale_reply_counted", TWICE, Flaw::StaleReplyCounted),
        case("votes_per_reply", LOCK, Flaw::VotesPerReply),
        case("ttl_by_a_second_command", LOCK, Flaw::TtlBySecondCommand),
    ]
}

/// Fences that expire, each by its node's own clock.
const FENCE: fence::Bounds = fence::Bounds {
    proposals: 2,
    time: 4,
    restarts: 0,
    behind: 0,
    clocks: Clocks::Apart,
    expiry: true,
};
/// Fences that are lost at a restart.
const RESTARTED: fence::Bounds = fence::Bounds {
    time: 3,
    restarts: 1,
    clocks: Clocks::Together,
    expiry: false,
    ..FENCE
};
/// Fences of a master that are lost at the promotion of its replica.
const PROMOTED: fence::Bounds = fence::Bounds {
    time: 4,
    behind: 1,
    ..RESTARTED
};

fn fence(name: &'static str, bounds: fence::Bounds) -> Case {
    Case::new(name, true, Fence { bounds, flaw: None })
}

fn fences() -> Vec<Case> {
    vec![
        fence("fences_expire_by_clocks_apart", FENCE),
        fence(
            "three_proposals_at_once",
            fence::Bounds {
                proposals: 3,
                time: 3,
                clocks: Clocks::Together,
                ..FENCE
            },
        ),
        fence(
            "a_fence_is_lost",
            fence::Bounds {
                proposals: 3,
                ..RESTARTED
            },
        ),
        fence("a_replica_without_the_fence_is_promoted", PROMOTED),
    ]
}

fn fence_flaws() -> Vec<Case> {
    use fence::Flaw;
    let case = |name, bounds, flaw| {
        Case::new(
            name,
            false,
            Fence {
                bounds,
                flaw: Some(flaw),
            },
        )
    };
    let three = |bounds| fence::Bounds {
        proposals: 3,
        time: 3,
        clocks: Clocks::Together,
        ..bounds
    };
    vec![
        case("equal_token_accepted", FENCE, Flaw::EqualTokenAccepted),
        case("fence_unchecked", FENCE, Flaw::FenceUnchecked),
        case("counters_per_node", FENCE, Flaw::CountersPerNode),
        case("no_lower_bound", FENCE, Flaw::NoLowerBound),
        case("no_upper_bound", FENCE, Flaw::NoUpperBound),
        case("short_lifetime", FENCE, Flaw::ShortLifetime),
        case("clock_steps_back", FENCE, Flaw::ClockStepsBack),
        case("large_nudge", three(FENCE), Flaw::LargeNudge),
        case(
            "guarded_for_the_ttl_only",
            RESTARTED,
            Flaw::GuardedForTtlOnly,
        ),
        case(
            "guarded_until_the_reply",
            RESTARTED,
            Flaw::GuardedUntilReply,
        ),
        case(
            "lower_bound_only_without_a_fence",
            three(RESTARTED),
            Flaw::LowerBoundOnlyWithoutFence,
        ),
        case(
            "replica_farther_behind",
            RESTARTED,
            Flaw::ReplicaFartherBehind,
        ),
    ]
}

fn guard(name: &'static str, bounds: guard::Bounds) -> Case {
    Case::new(name, true, Guard { bounds, flaw: None })
}

fn guards() -> Vec<Case> {
    use guard::Flaw;
    let bounds = guard::Bounds {
        restarts: 1,
        promotions: 2,
    };
    let case = |name, flaw| {
        Case::new(
            name,
            false,
            Guard {
                bounds,
                flaw: Some(flaw),
            },
        )
    };
    vec![
        guard("a_node_restarts_and_is_replaced", bounds),
        case("no_delay", Flaw::NoDelay),
        case("run_id_alone", Flaw::RunIdAlone),
        case("marker_not_rewritten", Flaw::MarkerNotRewritten),
        case(
            "connection_outlives_demotion",
            Flaw::ConnectionOutlivesDemotion,
        ),
        case("deposed_master_serves", Flaw::DeposedMasterServes),
    ]
}
