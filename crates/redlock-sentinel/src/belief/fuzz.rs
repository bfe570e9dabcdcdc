//! Whatever sentinels name, in whatever order and at whatever time.

use proptest::prelude::*;

use super::*;

/// Few of each, so that they meet.
fn named() -> impl Strategy<Value = Vec<Master>> {
    let epoch = prop_oneof![4 => 0..4_u64, 1 => any::<u64>()];
    let master = (epoch, "[ab]{0,1}", 0..3_u16);
    let master = master.prop_map(|(epoch, host, port)| Master { epoch, host, port });
    prop::collection::vec(master, 0..6)
}

proptest! {
    #[test]
    fn who_is_believed_was_named_and_is_no_older_without_a_majority_and_a_long_silence(
        rounds in prop::collection::vec((named(), 0..10_000_u64), 1..12),
        sentinels in 1..6_usize,
    ) {
        let majority = sentinels / 2 + 1;
        let mut now = Instant::now();
        let mut before: Option<Belief> = None;
        let mut last_named = now;
        for (named, pause) in rounds {
            now += Duration::from_millis(pause);
            let votes = |master: &Master| named.iter().filter(|it| *it == master).count();
            let newest = named.iter().map(|master| master.epoch).max();
            let after = Belief::after(before.clone(), &named, majority, now);
            let known = before.as_ref().map(|belief| &belief.master);
            match &after {
                Ok(Belief { master, .. }) => {
                    prop_assert!(named.contains(master));
                    prop_assert_eq!(Some(master.epoch), newest);
                    let rivals = named.iter().filter(|it| it.epoch == master.epoch);
                    prop_assert!(rivals.clone().all(|it| votes(it) <= votes(master)));
                    if known.is_some_and(|known| known.epoch > master.epoch) {
                        prop_assert!(votes(master) >= majority);
                        prop_assert!(now - last_named > MEMORY);
                    }
                }
                Err(_) => prop_assert!(
                    named.is_empty() || known.map(|known| known.epoch) > newest,
                    "{:?}", named
                ),
            }
            if let Ok(belief) = after {
                last_named = now;
                before = Some(belief);
            }
        }
    }

    #[test]
    fn only_who_is_believed_is_heard(
        believed in named(), heard in named(), pause in 0..30_000_u64,
    ) {
        let now = Instant::now();
        let Ok(mut belief) = Belief::after(None, &believed, 1, now) else {
            prop_assert!(believed.is_empty());
            return Ok(());
        };
        let later = now + Duration::from_millis(pause);
        for master in &heard {
            belief.hear(master, later);
        }
        let expected = if heard.contains(&belief.master) { later } else { now };
        prop_assert_eq!(belief.heard, expected);
    }
}
