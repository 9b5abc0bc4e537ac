//! The two ends of a range.

use super::aciq::{Distribution, aciq};
use super::threshold;
use crate::quantizers::{Histogram, ThresholdInit};

/// The ends of the range that `init` chooses for values seen, on a grid of `bits`:
///
/// | `init` | ends |
/// |---|---|
/// | `max` | the smallest and the largest value |
/// | `mean-max` | the means over the batches of those |
/// | `sd(N)`, `3sd` | the mean less and plus `N` standard deviations (those of a sample), no farther than the values |
/// | `percentile(P)` | the values that `P` percent are not below, and not above |
/// | `gauss`, `laplace` | those of [`aciq`](super::aciq()) |
/// | `mse`, `kl-j`, `entropy` | the [`threshold`](super::threshold()) and its opposite, no farther than the values |
pub fn range(values: &Histogram, init: ThresholdInit, bits: u32, signed: bool) -> (f32, f32) {
    let (least, greatest) = (values.min(), values.max());
    let within = |(low, high): (f32, f32)| (low.max(least), high.min(greatest));
    let deviations = |count: f64| {
        let (mean, spread) = (values.mean(), count * values.sample_deviation());
        within(((mean - spread) as f32, (mean + spread) as f32))
    };
    match init {
        ThresholdInit::Max => (least, greatest),
        ThresholdInit::MeanMax => values.mean_range(),
        ThresholdInit::ThreeDeviations => deviations(3.0),
        ThresholdInit::Deviations { thousandths } => deviations(f64::from(thousandths) / 1e3),
        ThresholdInit::Percentile { millionths } => {
            percentile_range(values, f64::from(millionths) / 1e6)
        }
        ThresholdInit::Gauss => aciq(values, Distribution::Gauss, bits, signed),
        ThresholdInit::Laplace => aciq(values, Distribution::Laplace, bits, signed),
        ThresholdInit::Mse | ThresholdInit::KlJ { .. } | ThresholdInit::Entropy { .. } => {
            let end = threshold(values, init, bits, signed).unwrap_or_default();
            within((-end, end))
        }
    }
}

/// The least value that a fraction of the values does not exceed, and the greatest that as many are
/// not below; to the width of the histogram's bins, which end farther out.
fn percentile_range(values: &Histogram, fraction: f64) -> (f32, f32) {
    let bins = values.bins();
    let negative = bins.iter().filter(|bin| bin.is_negative());
    let positive = bins.iter().filter(|bin| !bin.is_negative());
    // Ascending values with their counts: negative ones from the largest magnitude on.
    let falling = negative
        .rev()
        .map(|bin| (-bin.bound(), -bin.least(), bin.count()));
    let rising = positive.map(|bin| (bin.least(), bin.bound(), bin.count()));
    let zero = std::iter::once((0.0, 0.0, values.zeros()));
    let ascending: Vec<(f32, f32, u64)> = falling.chain(zero).chain(rising).collect();
    let wanted = (fraction * values.count() as f64 * (1.0 - f64::EPSILON)).ceil() as u64;
    let reached = |counts: &mut dyn Iterator<Item = (f32, u64)>| {
        let mut seen = 0;
        let mut last = 0.0;
        for (value, count) in counts.filter(|&(_, count)| count > 0) {
            seen += count;
            last = value;
            if seen >= wanted {
                break;
            }
        }
        last
    };
    let high = reached(&mut ascending.iter().map(|&(_, high, count)| (high, count)));
    let low = reached(&mut ascending.iter().rev().map(|&(low, _, count)| (low, count)));
    (low.max(values.min()), high.min(values.max()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// -3, -2, ..., 6: nine of ten values are not below -2, nine of ten not above 5.
    #[test]
    fn percentiles_of_both_ends() {
        let mut values = Histogram::default();
        values.record(&(-3..=6).map(|i| i as f32).collect::<Vec<_>>());
        let range = |text: &str| range(&values, text.parse().unwrap(), 8, true);
        assert_eq!(range("percentile(90)"), (-2.0, 5.0));
        assert_eq!(range("percentile(100)"), (-3.0, 6.0));
        assert_eq!(range("max"), (-3.0, 6.0));
        // Mean 1.5; the squares of the distances sum up to 82.5, over nine 9.1667.
        let (low, high) = range("sd(1)");
        let spread = (82.5f64 / 9.0).sqrt();
        assert!((f64::from(low) - (1.5 - spread)).abs() < 1e-6);
        assert!((f64::from(high) - (1.5 + spread)).abs() < 1e-6);
        assert_eq!(range("3sd"), (-3.0, 6.0));
    }

    #[test]
    fn the_mean_of_batches() {
        let mut values = Histogram::default();
        values.record(&[-1.0, 4.0]);
        values.record(&[-2.0, 1.0]);
        let init = ThresholdInit::MeanMax;
        assert_eq!(range(&values, init, 8, true), (-1.5, 2.5));
        assert_eq!(threshold(&values, init, 8, true), Some(3.0));
    }
}
