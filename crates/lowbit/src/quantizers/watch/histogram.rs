//! A histogram that grows with what it sees.

use rayon::prelude::*;

/// How many magnitudes of finite `f32` are told apart: a power of two.
const BINS: usize = 8192;

/// Values that one thread counts at a time. Sums are added up in this order, whatever the number
/// of threads.
const CHUNK: usize = 1 << 16;

/// Counts of the magnitudes of all values seen so far, with their moments and extremes.
///
/// The bins divide `[0, 2^k)` evenly, where `2^k` is the least power of two above the largest
/// magnitude; a larger value doubles the range and merges bins in pairs, so that one pass over any
/// number of batches is enough and gives what a single pass over all of them would. Zeros are
/// counted apart: every threshold keeps them exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bins: Vec<u64>,
    /// The exponent `k` of the range, once a value other than zero was seen.
    exponent: Option<i32>,
    moments: Moments,
}

/// What is known of a set of values without their histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moments {
    count: u64,
    zeros: u64,
    not_finite: u64,
    min: f32,
    max: f32,
    sum: f64,
    magnitudes: f64,
    squares: f64,
}

impl Moments {
    const NONE: Self = Self {
        count: 0,
        zeros: 0,
        not_finite: 0,
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        sum: 0.0,
        magnitudes: 0.0,
        squares: 0.0,
    };

    fn of(values: &[f32]) -> Self {
        let mut seen = Self::NONE;
        seen.count = values.len() as u64;
        for &x in values {
            seen.zeros += u64::from(x == 0.0);
            seen.not_finite += u64::from(!x.is_finite());
            seen.min = seen.min.min(x);
            seen.max = seen.max.max(x);
            let x = f64::from(x);
            seen.sum += x;
            seen.magnitudes += x.abs();
            seen.squares += x * x;
        }
        seen
    }

    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            zeros: self.zeros + other.zeros,
            not_finite: self.not_finite + other.not_finite,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: self.sum + other.sum,
            magnitudes: self.magnitudes + other.magnitudes,
            squares: self.squares + other.squares,
        }
    }

    fn largest(&self) -> f32 {
        self.max.abs().max(self.min.abs())
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            bins: vec![0; BINS],
            exponent: None,
            moments: Moments::NONE,
        }
    }
}

impl Histogram {
    /// Adds values. Once a NaN or an infinity is among them, nothing more is counted.
    pub fn record(&mut self, values: &[f32]) {
        if values.is_empty() {
            return;
        }
        let parts: Vec<Moments> = values.par_chunks(CHUNK).map(Moments::of).collect();
        let seen = parts.into_iter().fold(Moments::NONE, Moments::and);
        self.moments = self.moments.and(seen);
        if self.moments.not_finite > 0 || seen.largest() == 0.0 {
            return;
        }
        let exponent = self.reach(seen.largest());
        // Scaling by a power of two is exact, so that a value on an edge is where it belongs.
        let to_bin = BINS as f64 * (-f64::from(exponent)).exp2();
        let count = |bins: &mut [u64], values: &[f32]| {
            for &x in values {
                let bin = (f64::from(x.abs()) * to_bin) as usize;
                bins[bin] += u64::from(x != 0.0);
            }
        };
        if values.len() <= CHUNK {
            count(&mut self.bins, values);
            return;
        }
        let empty = || vec![0u64; BINS];
        let counted = values.par_chunks(CHUNK).fold(empty, |mut bins, chunk| {
            count(&mut bins, chunk);
            bins
        });
        let counted = counted.reduce(empty, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
        self.bins.iter_mut().zip(counted).for_each(|(a, b)| *a += b);
    }

    /// Doubles the range until `largest` is inside, and returns its exponent.
    fn reach(&mut self, largest: f32) -> i32 {
        let needed = exponent_above(largest);
        let known = *self.exponent.get_or_insert(needed);
        if needed <= known {
            return known;
        }
        let shift = (needed - known) as u32;
        for i in 1..BINS {
            let count = std::mem::take(&mut self.bins[i]);
            self.bins[i.checked_shr(shift).unwrap_or(0)] += count;
        }
        self.exponent = Some(needed);
        needed
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

    /// The magnitudes other than zero in fewer bins: `(width of a bin, counts)`, where at least
    /// `bins` of them, a power of two up to 4096, cover the magnitudes that were seen, and the
    /// last count is of the bin with the largest one. Empty where all is zero.
    pub fn magnitudes(&self, bins: usize) -> (f64, Vec<u64>) {
        let Some(exponent) = self.exponent else {
            return (0.0, Vec::new());
        };
        // The largest magnitude lies in the upper half of the range.
        let total = (2 * bins).min(BINS);
        let merged = BINS / total;
        let counts = self.bins.chunks(merged).map(|bins| bins.iter().sum());
        let mut counts: Vec<u64> = counts.collect();
        let used = counts
            .iter()
            .rposition(|&n| n > 0)
            .map_or(0, |last| last + 1);
        counts.truncate(used);
        (f64::from(exponent).exp2() / total as f64, counts)
    }
}

/// The least `k` with `x < 2^k`, for a positive finite `x`.
fn exponent_above(x: f32) -> i32 {
    let bits = x.to_bits() >> 23;
    match bits {
        // Subnormal numbers share one range.
        0 => -126,
        _ => bits as i32 - 126,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_the_power_of_two_above() {
        for (x, k) in [(1.0, 1), (0.99, 0), (0.5, 0), (3.9, 2), (4.0, 3)] {
            assert_eq!(exponent_above(x), k, "{x}");
            assert!(x < (k as f32).exp2() && x >= ((k - 1) as f32).exp2());
        }
        assert_eq!(exponent_above(f32::MIN_POSITIVE / 2.0), -126);
    }

    #[test]
    fn growing_gives_what_one_pass_gives() {
        let values: Vec<f32> = (0..300_000u64)
            .map(|i| ((i * 7919 % 300_000) as f32 - 90_000.0) / 1000.0)
            .collect();
        let mut whole = Histogram::default();
        whole.record(&values);
        let mut sorted = values.clone();
        sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        let mut parts = Histogram::default();
        for part in sorted.chunks(70_000) {
            parts.record(part);
        }
        assert_eq!(whole.bins, parts.bins);
        assert_eq!(whole.exponent, parts.exponent);
        // -90 to 209.999 in steps of a thousandth: one zero, the rest in 2^8 / 8192 = 1/32 each.
        assert_eq!(whole.zeros(), 1);
        assert_eq!(whole.bins.iter().sum::<u64>(), 299_999);
        // Magnitudes from 200 to below 200 + 1/32 are 200.000 to 200.031: 32 of them.
        assert_eq!(whole.bins[6400], 32);
        assert!((whole.mean() - 59.9995).abs() < 1e-3);
    }

    #[test]
    fn threads_do_not_change_it() {
        let values: Vec<f32> = (0..500_000).map(|i| (i as f32 * 0.37).sin()).collect();
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
        let (width, counts) = histogram.magnitudes(4);
        assert_eq!((width, counts), (1.0, vec![0, 1, 1, 1, 0, 0, 1]));
    }

    #[test]
    fn zeros_and_what_is_no_number() {
        let mut histogram = Histogram::default();
        histogram.record(&[-1.0, 2.0]);
        assert_eq!(histogram.mean_magnitude(), 1.5);
        let mut histogram = Histogram::default();
        histogram.record(&[0.0, -0.0]);
        assert_eq!((histogram.largest(), histogram.zeros()), (0.0, 2));
        assert_eq!(histogram.magnitudes(2048).1.len(), 0);
        histogram.record(&[f32::NAN]);
        assert!(histogram.saw_not_finite());
    }
}
