//! A histogram whose bins do not depend on what it sees.

use super::bins::{Bin, CHUNK, Octaves, merged, sorted};
use super::moments::Moments;

/// Values that are kept as they are before they are counted, in less memory than their bins need.
const KEPT: usize = CHUNK;

/// Counts of all values seen so far, by sign and magnitude, with their moments and extremes.
///
/// The bins divide each octave evenly into 2^12, so that the largest value, be it ever so far
/// from the others, makes none wider; a bin knows its value where it saw no other. One pass over
/// any number of batches, in any order and on any number of threads, gives the same bins. Zeros
/// are counted apart: every threshold keeps them exactly.
#[derive(Debug, Clone)]
pub struct Histogram {
    octaves: Octaves,
    /// Values that are not among them yet.
    kept: Vec<f32>,
    moments: Moments,
    batches: Batches,
}

/// Sums over the batches that were recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Batches {
    count: u64,
    min: f64,
    max: f64,
    largest: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            octaves: Octaves::default(),
            kept: Vec::new(),
            moments: Moments::NONE,
            batches: Batches::default(),
        }
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.moments == other.moments && self.bins() == other.bins()
    }
}

impl Histogram {
    /// Adds values. Once a NaN or an infinity is among them, the bins mean nothing.
    pub fn record(&mut self, values: &[f32]) {
        let seen = if self.kept.len() + values.len() <= KEPT {
            self.kept.extend_from_slice(values);
            Moments::of(values, |_| ())
        } else {
            self.octaves.record(&std::mem::take(&mut self.kept));
            self.octaves.record(values)
        };
        self.moments = self.moments.and(seen);
        if seen.count > 0 {
            let batches = &mut self.batches;
            batches.count += 1;
            batches.min += f64::from(seen.min);
            batches.max += f64::from(seen.max);
            batches.largest += f64::from(seen.largest());
        }
    }

    /// The mean over the batches, one a call of [`record`](Self::record), of their smallest and their
    /// largest value.
    pub fn mean_range(&self) -> (f32, f32) {
        let count = self.batches.count as f64;
        let mean = |sum: f64| (sum / count) as f32;
        (mean(self.batches.min), mean(self.batches.max))
    }

    /// The mean over the batches of their largest magnitude.
    pub fn mean_largest(&self) -> f32 {
        (self.batches.largest / self.batches.count as f64) as f32
    }

    /// The mean distance from the mean, `E[|x - E[x]|]`, to the width of the bins.
    pub fn mean_deviation(&self) -> f64 {
        let mean = self.mean();
        let bins = self.bins();
        let parts = bins.iter().map(|bin| {
            let sign = if bin.is_negative() { -1.0 } else { 1.0 };
            (sign * bin.middle() - mean).abs() * bin.count() as f64
        });
        (parts.sum::<f64>() + mean.abs() * self.zeros() as f64) / self.count() as f64
    }

    /// The standard deviation of the values as a sample, `sqrt(sum (x - E[x])^2 / (n - 1))`.
    pub fn sample_deviation(&self) -> f64 {
        let count = self.count() as f64;
        self.standard_deviation() * (count / (count - 1.0).max(1.0)).sqrt()
    }

    /// How many values were seen.
    pub fn count(&self) -> u64 {
        self.moments.count
    }

    /// How many of them are zero.
    pub fn zeros(&self) -> u64 {
        self.moments.zeros
    }

    /// The smallest value.
    pub fn min(&self) -> f32 {
        self.moments.min
    }

    /// The largest value.
    pub fn max(&self) -> f32 {
        self.moments.max
    }

    /// The largest magnitude.
    pub fn largest(&self) -> f32 {
        self.moments.largest()
    }

    /// Whether a NaN or an infinity was among the values.
    pub fn saw_not_finite(&self) -> bool {
        self.moments.not_finite > 0
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.moments.sum / self.moments.count as f64
    }

    /// The mean magnitude, `E[|x|]`.
    pub fn mean_magnitude(&self) -> f64 {
        self.moments.magnitudes / self.moments.count as f64
    }

    /// The standard deviation, `sqrt(E[x^2] - E[x]^2)`.
    pub fn standard_deviation(&self) -> f64 {
        let mean_square = self.moments.squares / self.moments.count as f64;
        (mean_square - self.mean().powi(2)).max(0.0).sqrt()
    }

    /// The bins that hold something: positive values from the smallest to the largest, then negative
    /// ones from the smallest magnitude to the largest. They have all values but zeros.
    pub fn bins(&self) -> Vec<Bin> {
        merged(&self.octaves.bins(), &sorted(&self.kept))
    }

    /// Magnitudes other than zero, from the smallest to the largest: the bins of the values whose
    /// signs are left out.
    pub fn magnitudes(&self) -> Vec<Bin> {
        let bins = self.bins();
        let (positive, negative) = bins.split_at(bins.partition_point(|bin| !bin.is_negative()));
        let flipped: Vec<Bin> = negative.iter().map(|bin| bin.positive()).collect();
        merged(positive, &flipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 1 to 2 there are 4096 bins, 2^-12 wide. 1 is there twice, two values share the bin 1024,
    /// and one, negative, is alone in the middle of the bin 3.
    #[test]
    fn bins_by_hand() {
        let bin = 1.0 / 4096.0;
        let values = [
            1.0,
            1.0 + 1024.5 * bin,
            1.0 + 1024.25 * bin,
            -1.0 - 3.5 * bin,
        ];
        let mut histogram = Histogram::default();
        histogram.record(&values);
        histogram.record(&[1.0, 0.0]);
        let facts = |bins: &[Bin]| -> Vec<(f32, f32, u64)> {
            let fact = |bin: &Bin| (bin.least(), bin.bound(), bin.count());
            bins.iter().map(fact).collect()
        };
        let bins = histogram.bins();
        assert_eq!(
            bins.iter().map(Bin::is_negative).collect::<Vec<_>>(),
            [false, false, true]
        );
        let (positive, negative) = bins.split_at(2);
        let shared = (1.0 + 1024.0 * bin, 1.0 + 1025.0 * bin, 2);
        assert_eq!(facts(positive), [(1.0, 1.0, 2), shared]);
        let alone = (1.0 + 3.5 * bin, 1.0 + 3.5 * bin, 1);
        assert_eq!(facts(negative), [alone]);
        assert_eq!(
            facts(&histogram.magnitudes()),
            [(1.0, 1.0, 2), alone, shared]
        );
        // The last bin of an octave ends at the power of two.
        let mut histogram = Histogram::default();
        histogram.record(&[2.0f32.next_down(), 2.0f32.next_down().next_down()]);
        let last = histogram.bins()[0];
        assert_eq!((last.least(), last.bound()), (2.0 - bin, 2.0));
    }

    /// Numbers of both signs over all exponents, some of them often: whatever their order, in
    /// parts of whatever size, they give the bins of a count one by one.
    #[test]
    fn neither_order_nor_parts_change_it() {
        let mut state = 7u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 32) as u32
        };
        let of_bits = (0..200_000)
            .map(|_| f32::from_bits(next()))
            .filter(|x| x.is_finite());
        let mut values: Vec<f32> = of_bits.collect();
        values.extend((0..100_000).map(|i| (i % 256) as f32 / 255.0 - 0.3));
        let mut expected = std::collections::BTreeMap::<u32, Vec<u32>>::new();
        for x in values.iter().filter(|&&x| x != 0.0) {
            expected
                .entry(x.to_bits() >> 11)
                .or_default()
                .push(x.to_bits());
        }
        let mut whole = Histogram::default();
        whole.record(&values);
        assert_eq!(whole.bins().len(), expected.len());
        for (bin, (number, bits)) in whole.bins().iter().zip(&expected) {
            assert_eq!((bin.number(), bin.count()), (*number, bits.len() as u64));
            let several = bits.iter().any(|&other| other != bits[0]);
            let first = if several { number << 11 } else { bits[0] };
            assert_eq!((bin.bits, bin.several), (first, several));
        }
        values.sort_by(f32::total_cmp);
        for size in [1000, 4097, 150_000] {
            let mut parts = Histogram::default();
            values.chunks(size).for_each(|part| parts.record(part));
            assert_eq!(whole.bins(), parts.bins(), "{size}");
        }
    }

    #[test]
    fn threads_do_not_change_it() {
        // Enough for all threads to have a share.
        let values: Vec<f32> = (0..1_500_000).map(|i| (i as f32 * 0.37).sin()).collect();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let mut histogram = Histogram::default();
                histogram.record(&values);
                histogram
            })
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn moments_by_hand() {
        let mut histogram = Histogram::default();
        histogram.record(&[1.0, 2.0]);
        histogram.record(&[3.0, 6.0]);
        // Mean 3, squares 1 + 4 + 9 + 36 = 50, variance 12.5 - 9 = 3.5.
        assert_eq!(histogram.mean(), 3.0);
        assert!((histogram.standard_deviation() - 3.5f64.sqrt()).abs() < 1e-12);
        assert_eq!((histogram.min(), histogram.max()), (1.0, 6.0));
        assert_eq!(histogram.mean_magnitude(), 3.0);
    }

    #[test]
    fn zeros_and_what_is_no_number() {
        let mut histogram = Histogram::default();
        histogram.record(&[-1.0, 2.0]);
        assert_eq!(histogram.mean_magnitude(), 1.5);
        let mut histogram = Histogram::default();
        histogram.record(&[0.0, -0.0]);
        assert_eq!((histogram.largest(), histogram.zeros()), (0.0, 2));
        assert_eq!(histogram.magnitudes().len(), 0);
        histogram.record(&[f32::NAN]);
        assert!(histogram.saw_not_finite());
    }
}
