//! Which master is believed, of those that sentinels name. Pure: no I/O.

use std::time::Duration;

use tokio::time::Instant;

/// For how long an epoch that no sentinel names any more outranks what a majority of them names: longer than
/// a demoted master goes on to take writes.
const MEMORY: Duration = Duration::from_secs(15);

/// A master as a sentinel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Master {
    /// Every failover has a higher one, of which the sentinels agree.
    pub(crate) epoch: u64,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The master that is believed, and when a sentinel last named it.
#[derive(Clone, Debug)]
pub(crate) struct Belief {
    pub(crate) master: Master,
    heard: Instant,
}

impl Belief {
    pub(crate) const fn new(master: Master, now: Instant) -> Self {
        Self { master, heard: now }
    }

    /// A sentinel names it still.
    pub(crate) fn hear(&mut self, named: &Master, now: Instant) {
        if self.master == *named {
            self.heard = now;
        }
    }

    /// What is believed when these are named by enough sentinels: the highest epoch, and of several masters
    /// of that the one that is named most often. A lower epoch than before only when a majority names
    /// the same master, and nobody has named the other for long.
    pub(crate) fn after(
        before: Option<Self>,
        named: &[Master],
        majority: usize,
        now: Instant,
    ) -> Result<Self, String> {
        let votes = |master: &Master| named.iter().filter(|other| *other == master).count();
        let best = named
            .iter()
            .max_by_key(|master| (master.epoch, votes(master)))
            .ok_or("no sentinel names a master")?;
        if let Some(mut before) = before
            && best.epoch < before.master.epoch
        {
            named.iter().for_each(|named| before.hear(named, now));
            let forgotten = now.duration_since(before.heard) > MEMORY;
            if !forgotten || votes(best) < majority {
                let (old, new) = (best.epoch, before.master.epoch);
                return Err(format!(
                    "the sentinels know epoch {old} only, and {new} was seen"
                ));
            }
        }
        Ok(Self::new(best.clone(), now))
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn master(epoch: u64, port: u16) -> Master {
        let host = "10.0.0.1".to_owned();
        Master { epoch, host, port }
    }

    fn after(before: &Belief, named: &[Master], now: Instant) -> Option<Master> {
        let belief = Belief::after(Some(before.clone()), named, 2, now);
        belief.ok().map(|belief| belief.master)
    }

    #[test]
    fn the_highest_epoch_wins_and_then_the_majority() {
        let now = Instant::now();
        let first =
            |named: &[Master]| Belief::after(None, named, 2, now).map(|belief| belief.master);
        let found = [master(3, 1), master(3, 1), master(4, 2)];
        assert_eq!(first(&found), Ok(master(4, 2)));
        let found = [master(0, 2), master(0, 1), master(0, 1)];
        assert_eq!(first(&found), Ok(master(0, 1)));
        assert!(first(&[]).is_err());
    }

    #[test]
    fn an_older_master_is_believed_only_when_the_newer_one_was_a_majoritys_mistake() {
        let start = Instant::now();
        let before = Belief::new(master(4, 2), start);
        let older = [master(3, 1), master(3, 1), master(2, 5)];
        assert_eq!(after(&before, &older, start + MEMORY), None);
        let later = start + MEMORY + Duration::from_millis(1);
        assert_eq!(after(&before, &older, later), Some(master(3, 1)));
        assert_eq!(
            after(&before, &older[1..], later),
            None,
            "one is no majority"
        );
        let disagreeing = [master(3, 1), master(3, 1), master(4, 2)];
        assert_eq!(after(&before, &disagreeing, later), Some(master(4, 2)));

        let mut heard = before.clone();
        heard.hear(&master(4, 2), start + MEMORY);
        assert_eq!(after(&heard, &older, later), None, "it was named lately");
        heard.hear(&master(4, 3), later);
        assert_eq!(after(&heard, &older, later + MEMORY), Some(master(3, 1)));
    }
}
