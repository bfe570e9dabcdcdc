//! Medians, and how far the rest lies from them.

use serde::Serialize;

/// The middle of many measurements.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    /// Half of them are below.
    pub median: f64,
    /// A quarter of them is below.
    pub low: f64,
    /// A quarter of them is above.
    pub high: f64,
}

impl Summary {
    /// Of these.
    #[must_use]
    pub fn of(measured: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measured.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self {
            median: quantile(&sorted, 0.5),
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
        }
    }

    /// The distance of the quartiles, in percent of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        100.0 * (self.high - self.low) / self.median
    }
}

/// What this part of the sorted measurements is below; not a number of none.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "an index"
)]
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (part * last as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "measurements as they were given")]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measurements() {
        let sorted: Vec<_> = (0..=100).map(f64::from).collect();
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|part| quantile(&sorted, part)),
            [0.0, 50.0, 99.0, 100.0]
        );
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_order_of_the_measurements_does_not_matter() {
        let summary = Summary::of([30.0, 10.0, 20.0, 50.0, 40.0]);
        assert_eq!(
            [summary.low, summary.median, summary.high],
            [20.0, 30.0, 40.0]
        );
        assert!((summary.spread() - 66.7).abs() < 0.1);
    }
}
