//! How far the servers' clocks are apart.
//!
//! A ttl is sent as a length of time, so that it does not matter what time a server believes it is. But a
//! server notes the end of a key as a time of its wall clock: when that is set, every key there ends so
//! much earlier or later. A clock that is off is one that somebody will set.

use std::time::Duration;

use redlock::validity::drift;

use super::finding::{Finding, Notes};

/// A lock of the default ttl lasts this much shorter for its holder than on the servers.
const ALLOWED: (Duration, f64) = (Duration::from_secs(30), 0.01);

/// What a server's clock showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// In microseconds, less those of our clock at the same moment.
    pub(super) ahead: i64,
    /// The moment is not known better: half of the round trip.
    pub(super) within: Duration,
}

/// What each clock is off from the one in the middle.
pub(super) fn compare(readings: &[(String, Reading)]) -> Vec<Finding> {
    let mut sorted: Vec<_> = readings.iter().map(|(_, it)| *it).collect();
    sorted.sort_by_key(|reading| reading.ahead);
    let middle = match &sorted[..] {
        [] | [_] => return Vec::new(),
        several => several[(several.len() - 1) / 2],
    };
    let allowed = drift(ALLOWED.0, ALLOWED.1);
    let off = |reading: &Reading| reading.ahead.saturating_sub(middle.ahead);
    let mut findings = Vec::new();
    for (name, reading) in readings {
        let apart = Duration::from_micros(off(reading).unsigned_abs());
        let apart = apart.saturating_sub(reading.within + middle.within);
        if apart <= allowed {
            continue;
        }
        let (direction, result, advice) = if off(reading) < 0 {
            (
                "behind",
                "set forward in one step, it would end the locks there that much too early",
                "slew the clock, or keep the server down for as long as the longest ttl after a step",
            )
        } else {
            (
                "ahead of",
                "set back in one step, it would keep the locks there that much too long",
                "slew the clock, or expect locks that stay longer after a step",
            )
        };
        let mut notes = Notes::of(Some(name.clone()));
        let found = format!(
            "the clock is {apart:.1?} {direction} the others'; that alone does no harm, as ttls are relative, but {result}"
        );
        notes.warning("clock", found, advice);
        findings.extend(notes.take());
    }
    if findings.is_empty() {
        let mut notes = Notes::of(None);
        let found = format!("no clock is known to be off by more than {allowed:.1?}");
        notes.ok("clock", found);
        return notes.take();
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Severity;

    fn compared(ahead: &[i64], within: u64) -> Vec<Finding> {
        let reading = |(index, ahead): (usize, &i64)| {
            let within = Duration::from_millis(within);
            let ahead = 1_700_000_000_000_000 + ahead * 1000;
            (format!("n{index}"), Reading { ahead, within })
        };
        compare(&ahead.iter().enumerate().map(reading).collect::<Vec<_>>())
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_what_a_step_would_do() {
        let found = compared(&[0, 5_000, -3_000, 10, -20], 1);
        assert_eq!(found.len(), 2);
        for (finding, node, direction, result) in [
            (&found[0], "n1", "5.0s ahead of", "too long"),
            (&found[1], "n2", "3.0s behind", "too early"),
        ] {
            assert_eq!(finding.severity, Severity::Warning);
            assert_eq!(finding.node.as_deref(), Some(node));
            assert!(finding.found.contains(direction), "{finding:?}");
            assert!(finding.found.contains(result), "{finding:?}");
        }
    }

    #[test]
    fn what_the_round_trip_or_the_drift_allowance_explains_is_fine() {
        for (ahead, within) in [(&[0, 300][..], 0), (&[0, 1_000, 5], 400)] {
            let found = compared(ahead, within);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].severity, Severity::Ok, "{found:?}");
        }
        assert_eq!(compared(&[0, 1_000, 5], 300)[0].severity, Severity::Warning);
        assert!(compared(&[7], 0).is_empty() && compared(&[], 0).is_empty());
    }
}
