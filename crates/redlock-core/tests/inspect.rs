//! Who holds it, on the paused clock.

mod common;

use std::time::Duration;

use common::{everything::everything, *};
use redlock_core::{
    BackendError, BackendErrorKind, Error, Holder, Inspection, InvalidRequest, LockBackend,
    LockValue, NodeInspection, Redlock, Resources, Verdict,
};
use redlock_test::{Fault, Operation};
use tokio::time::{Instant, sleep, timeout};

async fn inspect(redlock: &Redlock) -> Inspection {
    redlock.inspect("a").await.unwrap()
}

/// Takes `a` on these nodes behind everybody's back.
async fn take(nodes: &[Node], ttl: Duration) -> LockValue {
    let value = LockValue::random();
    let name = Resources::new(["a"]).unwrap();
    for node in nodes {
        node.inner().acquire(&name, &value, ttl).await.unwrap();
    }
    value
}

fn answers(inspection: &Inspection) -> Vec<String> {
    let answer = |node: &NodeInspection| match node.answer() {
        Ok(Some(_)) => "held".to_owned(),
        Ok(None) => "free".to_owned(),
        Err(error) => error.to_string(),
    };
    inspection.iter().map(answer).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_told_with_what_is_left_of_it_until_it_is_released() {
    let nodes = nodes(5);
    let redlock = redlock(&nodes);
    assert_eq!(inspect(&redlock).await.verdict(), &Verdict::Free);
    let lock = redlock.acquire(["a", "b"], TTL).await.unwrap();
    sleep(ms(1_500)).await;
    for name in ["a", "b"] {
        let inspection = redlock.inspect(name).await.unwrap();
        let holder = Holder::new(lock.value(), ms(8_500));
        assert_eq!(inspection.verdict(), &Verdict::HeldBy(holder.clone()));
        let names: Vec<_> = inspection.iter().map(NodeInspection::node).collect();
        assert_eq!(names, redlock.nodes().collect::<Vec<_>>());
        for node in &inspection {
            assert_eq!(node.answer().unwrap(), Some(&holder));
        }
    }
    let other = redlock.inspect("c").await.unwrap();
    assert_eq!(other.verdict(), &Verdict::Free);
    lock.release().await.unwrap();
    assert_eq!(inspect(&redlock).await.verdict(), &Verdict::Free);
}

#[tokio::test(start_paused = true)]
async fn the_remaining_time_is_that_of_a_quorum() {
    let nodes = nodes(5);
    let redlock = redlock(&nodes);
    let value = take(&nodes[..2], ms(900)).await;
    let name = Resources::new(["a"]).unwrap();
    for (node, ttl) in nodes[2..4].iter().zip([ms(300), ms(600)]) {
        node.inner().acquire(&name, &value, ttl).await.unwrap();
    }
    let held = |millis| Verdict::HeldBy(Holder::new(&value, ms(millis)));
    assert_eq!(inspect(&redlock).await.verdict(), &held(600));
    sleep(ms(599)).await;
    assert_eq!(inspect(&redlock).await.verdict(), &held(1));
    sleep(ms(1)).await;
    assert_eq!(inspect(&redlock).await.verdict(), &Verdict::Free);
}

#[tokio::test(start_paused = true)]
async fn minorities_are_split_and_silence_may_hide_a_holder() {
    let nodes = nodes(5);
    let redlock = redlock(&nodes);
    take(&nodes[..2], TTL).await;
    take(&nodes[2..4], TTL).await;
    let inspection = inspect(&redlock).await;
    assert_eq!(inspection.verdict(), &Verdict::Split);
    assert_eq!(
        answers(&inspection),
        ["held", "held", "held", "held", "free"]
    );
    nodes[4].on(Operation::Inspect, Fault::Down);
    assert_eq!(inspect(&redlock).await.verdict(), &Verdict::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_costs_only_its_answer() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let lock = redlock.acquire("a", TTL).await.unwrap();
    nodes[0].on(Operation::Inspect, HUNG);
    nodes[1].on(Operation::Inspect, late(30));
    let start = Instant::now();
    let inspection = inspect(&redlock).await;
    assert_eq!(start.elapsed(), NODE_TIMEOUT);
    assert_eq!(answers(&inspection), ["timed out", "held", "held"]);
    let took: Vec<_> = inspection.iter().map(NodeInspection::took).collect();
    assert_eq!(took, [NODE_TIMEOUT, ms(30), Duration::ZERO], "all at once");
    let holder = Holder::new(lock.value(), ms(9_970));
    assert_eq!(inspection.verdict(), &Verdict::HeldBy(holder));

    nodes[1].on(Operation::Inspect, HUNG);
    let start = Instant::now();
    assert_eq!(inspect(&redlock).await.verdict(), &Verdict::Unknown);
    assert_eq!(start.elapsed(), NODE_TIMEOUT);
    let hasty = builder(&nodes).node_timeout(ms(7)).build().unwrap();
    let start = Instant::now();
    inspect(&hasty).await;
    assert_eq!(start.elapsed(), ms(7));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_panics_or_cannot_tell_is_a_node_without_an_answer() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    nodes[0].on(Operation::Inspect, Fault::Panic);
    nodes[1].on(Operation::Inspect, Fault::Refuse);
    let inspection = inspect(&redlock).await;
    assert_eq!(inspection.verdict(), &Verdict::Unknown);
    let kinds = inspection
        .iter()
        .map(|node| node.answer().err().map(BackendError::kind));
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [
            Some(BackendErrorKind::Server),
            Some(BackendErrorKind::Unsupported),
            None
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_that_makes_no_sense_is_refused_before_anything_is_sent() {
    let nodes = nodes(3);
    let error = redlock(&nodes).inspect("").await.unwrap_err();
    assert!(
        matches!(error, Error::Invalid(InvalidRequest::EmptyResource)),
        "{error}"
    );
    assert!(nodes.iter().all(|node| node.calls().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_question_leaves_everything_as_it_was() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    nodes
        .iter()
        .for_each(|node| node.on(Operation::Inspect, late(20)));
    timeout(ms(10), redlock.inspect("a")).await.unwrap_err();
    sleep(TTL).await;
    assert!(nodes.iter().all(|node| node.calls().len() == 1));
    assert_eq!(holding(&nodes, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn no_lock_depends_on_an_inspection() {
    let nodes = nodes(3);
    everything(&nodes, &redlock(&nodes)).await;
    let inspected = |node: &Node| node.count(Operation::Inspect);
    assert!(nodes.iter().all(|node| inspected(node) == 0));
}

#[tokio::test(start_paused = true)]
async fn one_line_tells_who_and_what_each_node_says_but_not_the_secret() {
    let nodes = nodes(3);
    let redlock = redlock(&nodes);
    let lock = redlock.acquire("a", TTL).await.unwrap();
    nodes[1].inner().forget();
    nodes[2].on(Operation::Inspect, HUNG);
    let inspection = inspect(&redlock).await;
    let secret = lock.value().as_str();
    let shown = inspection.to_string();
    let names: Vec<_> = redlock.nodes().collect();
    assert_eq!(
        shown,
        format!(
            "unknown: too few nodes answered; {} held by {}… for another 10.0s; {} free; \
             {} failed after 500.0ms (timed out)",
            names[0],
            &secret[..4],
            names[1],
            names[2]
        )
    );
    nodes[2].heal();
    let inspection = inspect(&redlock).await;
    let shown = format!("{inspection} {inspection:?} {:?}", inspection.verdict());
    assert!(!shown.contains(&secret[..5]), "{shown}");
}
