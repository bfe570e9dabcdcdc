//! No history breaks an invariant, and the same seed gives the same history.

use std::{ops::Range, thread};

use redlock_simulation::{Report, Shares, simulate, tell};

/// Seeds that once broke an invariant, or almost.
const REGRESSIONS: &[u64] = &[
    16, 47, 202, 239, 431, 598, 1200, 2685, 4219, 7366, 15518, 19101,
];

/// How many histories are always the same, and how many are new each time.
const BUDGET: (u64, u64) = (2000, 1000);

fn assert_sound(seed: u64, report: &Report) {
    assert!(
        report.violations().is_empty(),
        "{}\n{:#?}\nreplay: cargo run --release --package redlock-simulation -- --seed {seed}",
        tell(seed).history(),
        report.violations(),
    );
}

fn assert_all_sound(seeds: &Range<u64>) -> (Shares, [u64; 2]) {
    let run = |seeds: Vec<u64>| {
        let (mut shares, mut forgetful) = (Shares::default(), [0; 2]);
        for seed in seeds {
            let report = simulate(seed);
            assert_sound(seed, &report);
            report.count(&mut shares);
            forgetful[0] += u64::from(report.is_unsafe());
            forgetful[1] += u64::from(!report.expected().is_empty());
        }
        (shares, forgetful)
    };
    thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let seeds = seeds.clone().skip(half).step_by(2).collect();
            scope.spawn(move || run(seeds))
        });
        let [one, other] = halves.map(|half| half.join().expect("no invariant is broken"));
        let mut shares = one.0;
        shares.add(&other.0);
        (shares, [one.1[0] + other.1[0], one.1[1] + other.1[1]])
    })
}

#[test]
fn seeds_that_once_broke_an_invariant_break_none() {
    for seed in REGRESSIONS {
        assert_sound(*seed, &simulate(*seed));
    }
}

#[test]
fn no_history_breaks_an_invariant_and_enough_happens_in_them() {
    let (shares, [forgetful, broken]) = assert_all_sound(&(0..BUDGET.0));
    println!("{shares}");
    assert_eq!(shares.rare().collect::<Vec<_>>(), [""; 0], "{shares}");
    // The proof that the checks see anything at all.
    assert!(
        broken > 0,
        "{forgetful} histories in which nodes forget what they granted, and none is broken"
    );
}

#[test]
#[expect(clippy::disallowed_types, reason = "seeds that nobody has tried")]
fn no_new_history_breaks_an_invariant() {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970");
    let first = now.as_secs() * 1_000_000;
    println!("from seed {first} on");
    assert_all_sound(&(first..first + BUDGET.1));
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..200 {
        let (one, other) = (tell(seed), tell(seed));
        assert_eq!(one.history(), other.history(), "seed {seed}");
        assert_eq!(one.violations(), simulate(seed).violations());
    }
}
