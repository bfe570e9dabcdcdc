//! Whether the histories were worth anything: one in which nothing happens finds nothing.

use std::fmt;

/// What happened in one history.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) grants: u32,
    pub(crate) contended: u32,
    pub(crate) extensions: u32,
    pub(crate) healed: u32,
    pub(crate) lost: u32,
    pub(crate) adopted: u32,
    pub(crate) fenced: bool,
    pub(crate) fence_refusals: u32,
    pub(crate) crashes_while_held: u32,
    pub(crate) forgetful: bool,
}

/// In how many histories it did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shares {
    histories: u64,
    counts: [u64; SHARES.len()],
}

type Happened = fn(&Tally) -> bool;

/// What, how often at least of a hundred histories, and how it is told from one history's tally.
const SHARES: [(&str, u64, Happened); 9] = [
    ("two grants", 75, |it| it.grants >= 2),
    ("contended grants", 40, |it| it.contended > 0),
    ("extensions won", 40, |it| it.extensions > 0),
    ("healed", 5, |it| it.healed > 0),
    ("lost", 5, |it| it.lost > 0),
    ("adopted", 10, |it| it.adopted > 0),
    ("crash while held", 15, |it| it.crashes_while_held > 0),
    ("fenced", 25, |it| it.fenced),
    ("fence refusals", 10, |it| it.fence_refusals > 0),
];

impl Shares {
    pub(crate) fn count(&mut self, tally: &Tally) {
        self.histories += 1;
        for (count, (_, _, happened)) in self.counts.iter_mut().zip(SHARES) {
            *count += u64::from(happened(tally));
        }
    }

    /// Adds what others have counted.
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// What happened too rarely for the histories to prove much.
    pub fn rare(&self) -> impl Iterator<Item = &'static str> {
        let counts = self.counts.into_iter().zip(SHARES);
        counts
            .filter(|(count, (_, least, _))| count * 100 < least * self.histories)
            .map(|(_, (name, _, _))| name)
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (count, (name, _, _))) in self.counts.iter().zip(SHARES).enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let share = count * 100 / self.histories.max(1);
            write!(f, "{separator}{name} {share} %")?;
        }
        Ok(())
    }
}
