//! Whether two held the same at once, told from what they said.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use redlock_core::{Instant, IntoResources, LockValue, MemoryBackend, Redlock};
use redlock_test::{Ending, History, Hold};
use tokio::time::sleep;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn hold(who: &str, resources: impl IntoResources, granted: Instant, until: Instant) -> Hold {
    Hold {
        who: who.into(),
        resources: resources.into_resources().unwrap(),
        value: LockValue::random(),
        granted,
        valid_until: until,
        ending: Ending::Deadline,
    }
}

/// A history of these holds of one resource, each from when to when, in milliseconds.
fn history(holds: &[(&str, u64, u64)]) -> History {
    let history = History::new();
    let start = Instant::now();
    for (who, granted, until) in holds {
        history.add(hold(who, "a", start + ms(*granted), start + ms(*until)));
    }
    history
}

/// Who held at once, and for how many milliseconds.
fn overlaps(history: &History) -> Vec<(String, String, u128)> {
    let violations = history.violations().into_iter();
    violations
        .map(|violation| {
            let overlap = violation.overlap().as_millis();
            (violation.first.who, violation.second.who, overlap)
        })
        .collect()
}

fn overlap(first: &str, second: &str, millis: u128) -> (String, String, u128) {
    (first.into(), second.into(), millis)
}

#[test]
fn holds_that_only_touch_do_not_overlap() {
    let history = history(&[("alice", 0, 10), ("bob", 10, 20), ("alice", 20, 30)]);
    history.assert_mutual_exclusion();
    assert!(history.violations().is_empty());
    assert_eq!(history.holds().len(), 3);
}

#[test]
fn holds_that_overlap_are_told_in_whatever_order_they_were_recorded() {
    let forth = history(&[("alice", 0, 11), ("bob", 10, 20)]);
    let back = history(&[("bob", 10, 20), ("alice", 0, 11)]);
    for history in [forth, back] {
        assert_eq!(overlaps(&history), [overlap("alice", "bob", 1)]);
    }
}

#[test]
fn a_hold_that_contains_others_overlaps_each_of_them() {
    let history = history(&[
        ("alice", 0, 100),
        ("bob", 10, 20),
        ("carol", 30, 120),
        ("dave", 110, 130),
    ]);
    let expected = [
        overlap("alice", "bob", 10),
        overlap("alice", "carol", 70),
        overlap("carol", "dave", 10),
    ];
    assert_eq!(overlaps(&history), expected);
}

#[test]
fn a_hold_that_takes_no_time_overlaps_nothing() {
    history(&[("alice", 0, 100), ("bob", 50, 50), ("carol", 60, 40)]).assert_mutual_exclusion();
}

#[test]
fn holds_of_several_resources_meet_in_what_they_share() {
    let history = History::new();
    let start = Instant::now();
    history.add(hold("alice", ["a", "b"], start, start + ms(10)));
    history.add(hold("bob", ["c", "d"], start, start + ms(10)));
    history.assert_mutual_exclusion();
    history.add(hold("carol", ["b", "e"], start + ms(9), start + ms(20)));
    let violations = history.violations();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].resource, "b");
    assert_eq!(overlaps(&history), [overlap("alice", "carol", 1)]);
}

#[tokio::test(start_paused = true)]
async fn an_overlap_is_reported_with_both_holds() {
    let history = History::new();
    let alice: LockValue = "0123456789".parse().unwrap();
    let bob: LockValue = "abcdefghij".parse().unwrap();
    sleep(ms(100)).await;
    let _ = history.granted("alice", "a", &alice, Instant::now() + ms(900));
    sleep(ms(700)).await;
    let held = history.granted("bob", ["a", "b"], &bob, Instant::now() + ms(600));
    sleep(ms(400)).await;
    held.released();
    let checked = catch_unwind(AssertUnwindSafe(|| history.assert_mutual_exclusion()));
    let report = checked.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(
        *report,
        "two held \"a\" at once, from +800ms for 200ms\n  \
         alice: [\"a\"] with LockValue(0123…) from +100ms until +1s (its deadline)\n  \
         bob: [\"a\", \"b\"] with LockValue(abcd…) from +800ms until +1.2s (released)\n  \
         violations in all: 1"
    );
}

#[tokio::test(start_paused = true)]
async fn the_listing_says_how_every_hold_ended() {
    let history = History::new();
    let value: LockValue = "0123456789".parse().unwrap();
    let before = Instant::now() - ms(2);
    let granted = |who| history.granted(who, "a", &value, Instant::now() + ms(10));
    let (released, lost) = (granted("alice"), granted("bob"));
    let (late, _silent) = (granted("carol"), granted("dave"));
    history.add(hold("mallory", "a", before, before + ms(1)));
    sleep(ms(5)).await;
    released.released();
    lost.lost();
    sleep(ms(5)).await;
    late.released();
    let _held = granted("erin");
    let listing = history.to_string();
    let lines: Vec<_> = listing
        .lines()
        .map(|line| {
            let (who, _) = line.split_once(':').unwrap();
            let (_, times) = line.split_once(" from ").unwrap();
            format!("{who} {times}")
        })
        .collect();
    assert_eq!(
        lines,
        [
            "mallory -2ms until -1ms (its deadline)",
            "alice +0ns until +5ms (released)",
            "bob +0ns until +5ms (lost)",
            "carol +0ns until +10ms (released)",
            "dave +0ns until +10ms (its deadline)",
            "erin +10ms until +20ms (still held)",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_extended_hold_counts_to_its_new_deadline() {
    let history = History::new();
    let value = LockValue::random();
    let start = Instant::now();
    let held = history.granted("alice", "a", &value, start + ms(10));
    history.add(hold("bob", "a", start + ms(15), start + ms(20)));
    history.assert_mutual_exclusion();
    held.extended(start + ms(16));
    assert_eq!(overlaps(&history), [overlap("alice", "bob", 1)]);
    held.extended(start + ms(12));
    assert_eq!(
        overlaps(&history),
        [overlap("alice", "bob", 1)],
        "a deadline that was handed out is not taken back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_when_its_holder_gives_up_but_never_after_its_deadline() {
    for give_up_after in [5, 15] {
        let history = History::new();
        let start = Instant::now();
        let value = LockValue::random();
        let released = history.granted("alice", "a", &value, start + ms(10));
        let lost = history.granted("bob", "b", &value, start + ms(10));
        sleep(ms(give_up_after)).await;
        released.released();
        lost.lost();
        let end = start + ms(give_up_after.min(10));
        assert!(history.holds().iter().all(|hold| hold.until() == end));
        history.add(hold("carol", ["a", "b"], end, end + ms(10)));
        history.assert_mutual_exclusion();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_recorded_with_what_it_knows() {
    let redlock = Redlock::new([MemoryBackend::new()]).unwrap();
    let history = History::new();
    let lock = redlock.acquire(["a", "b"], ms(1_000)).await.unwrap();
    let _held = history.locked("alice", &lock);
    let holds = history.holds();
    assert_eq!(&holds[0].resources, lock.resources());
    assert_eq!(&holds[0].value, lock.value());
    assert_eq!(holds[0].until(), lock.valid_until());
}

#[test]
fn threads_write_one_history() {
    let history = History::new();
    let far = Instant::now() + Duration::from_secs(3_600);
    thread::scope(|scope| {
        for thread in 0..4 {
            let history = &history;
            scope.spawn(move || {
                for number in 0..1_000 {
                    let name = format!("{thread}/{number}");
                    let held = history.granted(&name, &name, &LockValue::random(), far);
                    held.released();
                }
            });
        }
    });
    let holds = history.holds();
    assert_eq!(holds.len(), 4_000);
    assert!(holds.iter().all(|hold| hold.ending != Ending::Deadline));
    history.assert_mutual_exclusion();
}

#[test]
fn a_hundred_thousand_holds_are_checked_in_no_time() {
    const HOLDS: usize = 100_000;
    let start = Instant::now();
    let one = hold("alice", "a", start, start + ms(10));
    let with = |granted: Duration, lasting: Duration| Hold {
        granted: start + granted,
        valid_until: start + granted + lasting,
        ..one.clone()
    };
    let (touching, all_at_once) = (History::new(), History::new());
    for number in 0..u32::try_from(HOLDS).unwrap() {
        touching.add(with(ms(10) * number, ms(10)));
        all_at_once.add(with(ms(1) * number, Duration::from_secs(3_600)));
    }
    let check = Instant::now();
    touching.assert_mutual_exclusion();
    assert_eq!(all_at_once.violations().len(), HOLDS - 1);
    // One comparison of every two of them would be 5 billion.
    let took = check.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}
