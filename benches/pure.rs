//! What the decisions cost that are made without I/O.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use redlock::{
    FencingToken, LockValue, Proposal, Resources,
    quorum::Tally,
    retry::{backoff, jittered},
    validity::validity,
};

const TTL: Duration = Duration::from_secs(10);

fn decisions(criterion: &mut Criterion) {
    for nodes in [1, 3, 5, 9] {
        criterion.bench_function(&format!("tally of {nodes}"), |bencher| {
            bencher.iter(|| {
                let mut tally = Tally::new(black_box(nodes));
                while tally.outcome().is_none() {
                    tally.grant();
                }
                tally
            });
        });
    }
    criterion.bench_function("validity", |bencher| {
        bencher.iter(|| validity(black_box(TTL), black_box(0.01)));
    });
    let now = 1_700_000_000_000_000;
    let fence = FencingToken::new(now - 1);
    let proposal = Proposal::new(FencingToken::new(now), Some(TTL));
    criterion.bench_function("admit a fencing token", |bencher| {
        bencher.iter(|| black_box(proposal).admit([black_box(fence)], black_box(now)));
    });
    criterion.bench_function("jittered delay", |bencher| {
        bencher.iter(|| jittered(black_box(TTL), black_box(TTL / 2), black_box(0.3)));
    });
    criterion.bench_function("ten delays of a backoff", |bencher| {
        let delays = || backoff(black_box(TTL / 1000), black_box(TTL));
        bencher.iter(|| delays().take(10).sum::<Duration>());
    });
    criterion.bench_function("a random value", |bencher| bencher.iter(LockValue::random));
    criterion.bench_function("one resource", |bencher| {
        bencher.iter(|| Resources::new([black_box("orders:42")]));
    });
}

criterion_group! {
    name = pure;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = decisions
}
criterion_main!(pure);
