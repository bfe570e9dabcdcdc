//! A short run of every phase, longer only where a loaded machine has not yet shown what it has to.

use std::{path::PathBuf, time::Duration};

use redlock_chaos::{Outcome, Phase, Settings};
use tokio::sync::Mutex;

/// One at a time: they are many processes each.
static TURN: Mutex<()> = Mutex::const_new(());

/// Runs the phase again with another seed until it has shown this, and takes all that is safe for granted meanwhile.
async fn until(phase: Phase, shown: impl Fn(&Outcome) -> bool) -> Outcome {
    let _turn = TURN.lock().await;
    let client = PathBuf::from(env!("CARGO_BIN_EXE_redlock-chaos"));
    for seed in 1..=12 {
        let settings = Settings {
            phase,
            time: Duration::from_secs(5),
            seed,
            ttl: Duration::from_secs(1),
            client: (client.clone(), vec!["client".to_owned()]),
        };
        let outcome = settings.run().await.expect("clients behave");
        let evidence = outcome.evidence();
        assert!(outcome.disorders.is_empty(), "{evidence}");
        if phase != Phase::NoGuard {
            assert!(outcome.violations.is_empty(), "{evidence}");
        }
        if shown(&outcome) {
            return outcome;
        }
    }
    panic!("{phase:?} never showed what it has to");
}

fn many_grants(outcome: &Outcome) -> bool {
    outcome.grants() >= 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_restart_guard_forgetful_servers_never_grant_a_lock_twice() {
    until(Phase::Guard, many_grants).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_it_they_do_and_it_is_noticed() {
    let outcome = until(Phase::NoGuard, |it| !it.violations.is_empty()).await;
    let evidence = outcome.evidence();
    assert!(evidence.contains("two held"), "{evidence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fencing_tokens_rise_whatever_the_clocks_of_the_clients_say() {
    let outcome = until(Phase::Fencing, many_grants).await;
    assert_eq!(outcome.tokens(), outcome.grants());
}
