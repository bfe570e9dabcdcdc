//! The protocol holds, and every flaw is found.

use redlock_model::catalogue::small;

/// Explores the configuration of this name.
fn check(name: &str) {
    let case = small().into_iter().find(|case| case.name == name);
    let case = case.expect("it is in the catalogue");
    let report = case.explore();
    println!("{name}: {report}");
    if let Some(complaint) = case.complaint(&report) {
        panic!("{name}: {complaint}");
    }
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_small_configuration_is_a_test() {
            let names: Vec<&str> = small().iter().map(|case| case.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

tests! {
    two_clients_attempt_twice
    two_clients_attempt_twice_and_extend
    three_clients_attempt_once
    locks_are_extended_twice
    a_node_restarts_during_extensions
    two_nodes_restart

    half_is_a_quorum
    release_without_value
    value_reused
    validity_unchecked
    clock_started_after_the_replies
    drift_missing
    extension_counted_from_its_reply
    extension_granted_when_sent
    extension_without_value
    extension_revives
    late_extension
    restart_without_delay
    stale_reply_counted
    votes_per_reply
    ttl_by_a_second_command

    fences_expire_by_clocks_apart
    three_proposals_at_once
    a_fence_is_lost
    a_replica_without_the_fence_is_promoted

    equal_token_accepted
    fence_unchecked
    counters_per_node
    no_lower_bound
    no_upper_bound
    short_lifetime
    clock_steps_back
    large_nudge
    guarded_for_the_ttl_only
    guarded_until_the_reply
    lower_bound_only_without_a_fence
    replica_farther_behind

    a_node_restarts_and_is_replaced
    no_delay
    run_id_alone
    marker_not_rewritten
    connection_outlives_demotion
    deposed_master_serves
}
