//! Every event and every metric that the documentation names, and no lock value in any of them.

mod common;

use common::{everything::everything, *};
use futures_util::{FutureExt, StreamExt};
use redlock_core::telemetry::Event;

#[tokio::test(start_paused = true)]
async fn the_stream_of_events_tells_everything_once() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let mut events = redlock.events();
    everything(&nodes, &redlock).await;

    let mut seen = Vec::new();
    while let Some(event) = events.next().now_or_never().flatten() {
        seen.push(match event {
            Event::Acquired {
                resources,
                attempts: 1,
                validity,
                ..
            } if !validity.is_zero() => {
                format!("acquired {resources}")
            }
            Event::NotAcquired {
                resources, error, ..
            } => {
                format!(
                    "not acquired {resources}: {}",
                    error.to_string().split(':').next().unwrap()
                )
            }
            // Of a kept lock: as often as time has passed.
            Event::Renewed { resources, .. } if resources[..] == ["d"] => continue,
            Event::Renewed { resources, .. } => format!("renewed {resources}"),
            Event::RenewalFailed { resources, .. } => format!("renewal of {resources} failed"),
            Event::Healed { resources, node } => {
                assert_eq!(*node, *redlock.nodes().next().unwrap());
                format!("healed {resources}")
            }
            Event::Released {
                resources,
                confirmed,
                ..
            } => format!("released {resources} {confirmed}"),
            Event::Lost { resources, held } => {
                assert!(held > TTL);
                format!("lost {resources}")
            }
            Event::NodeError {
                operation, error, ..
            } => format!("{operation}: {error}"),
            other => format!("{other:?}"),
        });
    }
    let down = "unreachable: a fault made by the test";
    assert_eq!(
        seen,
        [
            "acquired a".to_owned(),
            "renewed a".to_owned(),
            "healed a".to_owned(),
            format!("extend: {down}"),
            format!("extend: {down}"),
            "renewal of a failed".to_owned(),
            "not acquired a: locked by another".to_owned(),
            "released a true".to_owned(),
            format!("acquire: {down}"),
            "acquire: timed out".to_owned(),
            "not acquired b: no quorum of nodes answered".to_owned(),
            "not acquired c: granted too late to be of use".to_owned(),
            "acquired d".to_owned(),
            "lost d".to_owned(),
            "acquired e".to_owned(),
            "released e false".to_owned(),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_listener_is_told_how_much_it_has_missed() {
    let nodes = nodes(1);
    let redlock = redlock(&nodes);
    let mut events = redlock.events();
    for _ in 0..600 {
        redlock
            .acquire("a", TTL)
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    assert!(matches!(events.next().await, Some(Event::Missed(176))));
    assert!(matches!(events.next().await, Some(Event::Acquired { .. })));
}

#[cfg(feature = "metrics")]
#[test]
fn every_metric_of_the_documentation_is_recorded_with_its_labels() {
    use std::collections::BTreeSet;

    use common::everything::{everything_fresh, run};
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let values = metrics::with_local_recorder(&recorder, || run(everything_fresh));
    let mut seen = BTreeSet::new();
    let mut kept = None;
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> = key
            .key()
            .labels()
            .map(|label| (label.key(), label.value()))
            .collect();
        let shown: Vec<_> = labels
            .iter()
            .map(|(name, value)| {
                if *name == "node" {
                    (*name).to_owned()
                } else {
                    format!("{name}={value}")
                }
            })
            .collect();
        let name = key.key().name();
        seen.insert(format!("{name}{{{}}}", shown.join(",")));
        assert!(
            values
                .iter()
                .all(|value| !format!("{key:?}").contains(value))
        );
        match value {
            DebugValue::Gauge(gauge) if name == "redlock_kept_locks" => {
                kept = Some(gauge.into_inner());
            }
            DebugValue::Histogram(times) if name == "redlock_wait_seconds" => {
                assert!(
                    times.iter().all(|time| time.into_inner() < 1.0),
                    "in seconds"
                );
            }
            _ => {}
        }
    }
    assert_eq!(kept, Some(0.0), "as many ended as began");
    let expected = [
        "redlock_acquisitions_total{outcome=acquired}",
        "redlock_acquisitions_total{outcome=late}",
        "redlock_acquisitions_total{outcome=locked}",
        "redlock_acquisitions_total{outcome=no_quorum}",
        "redlock_healed_total{node}",
        "redlock_hold_seconds{}",
        "redlock_kept_locks{}",
        "redlock_lost_total{}",
        "redlock_node_errors_total{node,operation=acquire,kind=timeout}",
        "redlock_node_errors_total{node,operation=acquire,kind=unreachable}",
        "redlock_node_errors_total{node,operation=extend,kind=unreachable}",
        "redlock_node_seconds{node,operation=acquire}",
        "redlock_node_seconds{node,operation=extend}",
        "redlock_node_seconds{node,operation=release}",
        "redlock_release_validity_seconds{}",
        "redlock_renewals_total{outcome=failed}",
        "redlock_renewals_total{outcome=renewed}",
        "redlock_wait_seconds{outcome=acquired}",
        "redlock_wait_seconds{outcome=late}",
        "redlock_wait_seconds{outcome=locked}",
        "redlock_wait_seconds{outcome=no_quorum}",
    ];
    assert_eq!(seen, expected.map(Into::into).into());
}

/// The names of the events so far.
fn names(events: &mut (impl futures_util::Stream<Item = Event> + Unpin)) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(event) = events.next().now_or_never().flatten() {
        let shown = format!("{event:?}");
        names.push(shown.split_whitespace().next().unwrap().to_owned());
    }
    names
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_lock_is_told_once_however_it_ends() {
    let nodes = nodes(3);
    let redlock = builder(&nodes).max_hold(ms(3_000)).build().unwrap();
    let mut events = redlock.events();

    let kept = redlock.acquire("a", TTL).await.unwrap().keep_alive();
    kept.signal().lost().await;
    tokio::time::sleep(ms(1)).await;
    drop(kept);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(names(&mut events), ["Acquired", "Lost"]);

    for node in &nodes {
        node.on(redlock_test::Operation::Release, late(100));
    }
    let lock = redlock.acquire("b", TTL).await.unwrap();
    assert!(tokio::time::timeout(ms(10), lock.release()).await.is_err());
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(names(&mut events), ["Acquired", "Released"]);

    let value = redlock.acquire("c", TTL).await.unwrap().leak();
    let adopted = redlock.adopt("c", value, TTL).await.unwrap();
    adopted.release().await.unwrap();
    assert_eq!(names(&mut events), ["Acquired", "Renewed", "Released"]);
}
