//! Histograms that people look at: even bins, as wide as a power of two.

use serde::Serialize;

use crate::quantizers::{Bin, Histogram};

/// The most bins between the least and the greatest value.
const BINS: f64 = 96.0;

/// Counts of values in bins as wide as a power of two, so that no count of
/// [`quantizers::Histogram`](Histogram) has to be divided: bin `i` from 0 on holds the values of `[i w,
/// (i + 1) w)`, and bin `-1 - i` those of `(-(i + 1) w, -i w]` that are below zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ValueHistogram {
    /// The width of a bin, a power of two.
    pub width: f64,
    /// The number of the first bin.
    pub first: i64,
    /// How many values each bin holds.
    pub counts: Vec<u64>,
}

impl ValueHistogram {
    /// Empty bins for values of this range, which is no wider than 96 of them.
    pub(super) fn over(min: f64, max: f64) -> Self {
        let largest = max.abs().max(min.abs());
        let range = (max - min).max(largest / 64.0);
        let width = match range > 0.0 && range.is_finite() {
            true => (range / BINS).log2().ceil().exp2(),
            false => 1.0,
        };
        let (first, last) = (number(min, width), number(max, width));
        Self {
            width,
            first,
            counts: vec![0; (last - first + 1) as usize],
        }
    }

    /// The same bins with the values of a histogram; those outside are in the first or the last.
    pub(super) fn filled(mut self, values: &Histogram) -> Self {
        self.counts.fill(0);
        self.add(0, values.zeros());
        for bin in values.bins() {
            let at = magnitude(&bin, self.width);
            let at = if bin.is_negative() { -1 - at } else { at };
            self.add(at, bin.count());
        }
        self
    }

    fn add(&mut self, number: i64, count: u64) {
        let last = self.counts.len() as i64 - 1;
        let at = (number - self.first).clamp(0, last);
        self.counts[at as usize] += count;
    }

    /// The least value of bin `i` of [`counts`](Self::counts), or where it ends towards minus infinity.
    pub fn start(&self, i: usize) -> f64 {
        (self.first + i as i64) as f64 * self.width
    }

    /// Kullback-Leibler divergence of `other` from these counts, `sum p ln(p / q)` in nats, with `p` and
    /// `q` the shares of the bins after one more value was put into each, so that no share is zero. Both
    /// must have the same bins.
    pub fn divergence(&self, other: &Self) -> f64 {
        let bins = self.counts.len() as f64;
        let total = |counts: &[u64]| counts.iter().sum::<u64>() as f64 + bins;
        let (of_p, of_q) = (total(&self.counts), total(&other.counts));
        let share = |count: u64, total: f64| (count as f64 + 1.0) / total;
        let pairs = self.counts.iter().zip(&other.counts);
        let terms = pairs.map(|(&p, &q)| {
            let (p, q) = (share(p, of_p), share(q, of_q));
            p * (p / q).ln()
        });
        terms.sum()
    }
}

/// The number of the bin of a value.
fn number(value: f64, width: f64) -> i64 {
    let at = (value.abs() / width).floor() as i64;
    if value < 0.0 { -1 - at } else { at }
}

/// How many widths are below the magnitudes of a bin.
fn magnitude(bin: &Bin, width: f64) -> i64 {
    (f64::from(bin.least()) / width).floor() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.record(values);
        histogram
    }

    /// From -1 to 2 are 3; over 96 that is 1/32, a power of two: 32 bins below zero and one for -1
    /// itself, 64 above and one for 2.
    #[test]
    fn bins_by_hand() {
        let values = [-1.0, -0.01, 0.0, 0.03, 1.0 / 32.0, 2.0];
        let bins = ValueHistogram::over(-1.0, 2.0).filled(&histogram(&values));
        assert_eq!(
            (bins.width, bins.first, bins.counts.len()),
            (1.0 / 32.0, -33, 98)
        );
        let held: Vec<(i64, u64)> = (bins.first..)
            .zip(bins.counts.iter().copied())
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(held, [(-33, 1), (-1, 1), (0, 2), (1, 1), (64, 1)]);
        assert_eq!(bins.start(33), 0.0);
    }

    #[test]
    fn one_value_has_bins_too() {
        for value in [0.0f32, 3.0, -3.0] {
            let range = f64::from(value);
            let bins = ValueHistogram::over(range, range).filled(&histogram(&[value]));
            assert_eq!(bins.counts, [1], "{value}");
        }
    }

    /// Of two bins with 3 and 1 values against 1 and 3: shares 4/6 and 2/6 against 2/6 and 4/6.
    #[test]
    fn divergence_by_hand() {
        let of = |counts: [u64; 2]| ValueHistogram {
            width: 1.0,
            first: 0,
            counts: counts.into(),
        };
        let expected = 2.0 / 3.0 * 2f64.ln() - 1.0 / 3.0 * 2f64.ln();
        assert!((of([3, 1]).divergence(&of([1, 3])) - expected).abs() < 1e-12);
        assert_eq!(of([3, 1]).divergence(&of([3, 1])), 0.0);
    }
}
