//! What KL-J and entropy share: the threshold under which the quantized values are distributed
//! most like the values.

use rayon::prelude::*;

use crate::quantizers::{Bin, Histogram};

/// Thresholds that are tried in the range, spread evenly over it; half as many in each octave above.
const CANDIDATES: u64 = 256;

/// Levels that the range keeps under every threshold, where the grid has so many.
const KEPT_LEVELS: u64 = 256;

/// The bin of all magnitudes that no threshold comes near, of 2^24 levels least of all.
const FARTHEST: u64 = 1 << 32;

/// What stands for the probability of a bin that only one of two distributions has.
const FLOOR: f64 = 1e-9;

/// The threshold with the least divergence of the distribution of magnitudes below it, what lies
/// above put into its last bin, from the same quantized to `levels` and spread over the bins of
/// each level again. `each(p, q)` is a bin's part of the divergence.
///
/// The bins have one width, by the range of the bulk of the magnitudes, [`Linear`], and thresholds
/// lie in that range, or above it as long as it keeps 256 levels: a level is spread evenly over its
/// bins, so that evenly spread values would seem to lose nothing if they became a single level, and
/// one value far away would be the threshold.
///
/// Zeros do not count: every threshold keeps them. Where there are no more bins than levels, nothing
/// can be told, and the threshold is the largest magnitude.
pub(super) fn least_divergence(
    values: &Histogram,
    levels: f64,
    bins: u32,
    each: impl Fn(f64, f64) -> f64 + Sync,
) -> f32 {
    let levels = levels as u64;
    let linear = Linear::new(&values.magnitudes(), u64::from(bins));
    if linear.end() <= levels {
        return values.largest();
    }
    let candidates = linear.candidates(levels);
    let divergences: Vec<f64> = candidates
        .par_iter()
        .map(|&used| linear.divergence(used, levels, &each))
        .collect();
    let best = (0..candidates.len())
        .reduce(|best, next| {
            if divergences[next] < divergences[best] {
                next
            } else {
                best
            }
        })
        .map(|best| candidates[best] as f64 * linear.width);
    best.map_or(values.largest(), |best| (best as f32).min(values.largest()))
}

/// Magnitudes in bins of one width: at least as many as asked for, and up to twice as many, but no
/// more than 8192, to the magnitude that 99.9 % do not exceed. A few values far from all others so
/// make none wider.
struct Linear {
    /// The width of a bin.
    width: f64,
    /// Bins up to the power of two above that magnitude: the range.
    range: u64,
    /// The number of each bin that holds something, and its count.
    bins: Vec<(u64, u64)>,
    /// How many magnitudes there are.
    count: u64,
}

impl Linear {
    fn new(magnitudes: &[Bin], bins: u64) -> Self {
        let count: u64 = magnitudes.iter().map(Bin::count).sum();
        let most = (count * 999).div_ceil(1000);
        let mut below = 0;
        let bulk = magnitudes.iter().find(|bin| {
            below += bin.count();
            below >= most
        });
        let range = (2 * bins).min(8192);
        let exponent = exponent_above(bulk.map_or(1.0, Bin::least));
        let width = f64::from(exponent).exp2() / range as f64;
        let mut linear = Self {
            width,
            range,
            bins: Vec::new(),
            count,
        };
        for bin in magnitudes {
            let number = ((f64::from(bin.least()) / width) as u64).min(FARTHEST);
            match linear.bins.last_mut() {
                Some((last, count)) if *last == number => *count += bin.count(),
                _ => linear.bins.push((number, bin.count())),
            }
        }
        linear
    }

    /// The end of the bin of the largest magnitude, in bins.
    fn end(&self) -> u64 {
        self.bins.last().map_or(0, |last| last.0 + 1)
    }

    /// Thresholds that are tried, in bins: from `levels` on, evenly over the range and, half as many,
    /// over every octave above it, where they keep more than the one before; and the last.
    fn candidates(&self, levels: u64) -> Vec<u64> {
        let most = self.range * (levels / KEPT_LEVELS).max(1);
        let end = self.end().min(most);
        let octaves = std::iter::successors(Some(self.range), |octave| Some(2 * octave));
        let above = octaves
            .take_while(|&octave| octave < end)
            .flat_map(|octave| (octave..2 * octave).step_by((2 * octave / CANDIDATES) as usize));
        let stride = (self.range / CANDIDATES) as usize;
        let all = (levels..self.range).step_by(stride);
        let all = all.chain(above.filter(|&used| used >= levels));
        let mut kept = 0;
        let more = all.take_while(|&used| used < end).filter(|&used| {
            let before = std::mem::replace(&mut kept, self.below(used));
            kept > before
        });
        more.chain([end]).collect()
    }

    /// How many of the bins that hold something are below `used`.
    fn below(&self, used: u64) -> usize {
        self.bins.partition_point(|&(number, _)| number < used)
    }

    /// The divergence of the first `used` bins from the same in `levels`.
    fn divergence(&self, used: u64, levels: u64, each: impl Fn(f64, f64) -> f64) -> f64 {
        let bins = &self.bins[..self.below(used)];
        let kept: u64 = bins.iter().map(|bin| bin.1).sum();
        if kept == 0 {
            return f64::INFINITY;
        }
        let above = self.count - kept;
        let (all, kept) = (self.count as f64, kept as f64);
        let part = |count: u64, quantized: f64| {
            let (p, q) = (count as f64 / all, quantized / kept);
            each(p.max(FLOOR), q.max(FLOOR))
        };
        // Level l has the bins from floor(l used / levels) to before floor((l + 1) used / levels).
        let level = |&(number, _): &(u64, u64)| ((number + 1) * levels - 1) / used;
        let parts = bins.chunk_by(|a, b| level(a) == level(b)).flat_map(|bins| {
            let total: u64 = bins.iter().map(|bin| bin.1).sum();
            let quantized = total as f64 / bins.len() as f64;
            bins.iter().map(move |&(number, count)| {
                let clipped = if number + 1 == used { above } else { 0 };
                (count + clipped, quantized)
            })
        });
        let divergence: f64 = parts.map(|(count, quantized)| part(count, quantized)).sum();
        // What is clipped, where the last bin held nothing before.
        let alone = above > 0 && bins.last().is_some_and(|last| last.0 + 1 < used);
        divergence + if alone { part(above, 0.0) } else { 0.0 }
    }
}

/// The least `k` with `x < 2^k`, for a finite `x` that is not negative.
fn exponent_above(x: f32) -> i32 {
    // Subnormal numbers share one range.
    (x.to_bits() >> 23).max(1) as i32 - 126
}

/// 20,000 values below 1 and one far away: without that one the power of two above is 1.
#[cfg(test)]
pub(super) fn outliers_change_nothing(threshold: impl Fn(&Histogram, f64) -> f32) {
    for outlier in [10.0, 1e3, 1e4, 1e6, f32::MAX] {
        let mut values = Histogram::default();
        values.record(&(0..20_000).map(|i| i as f32 / 2e4).collect::<Vec<_>>());
        values.record(&[outlier]);
        for levels in [8.0, 128.0, 256.0] {
            let threshold = threshold(&values, levels);
            let right = threshold > 0.5 && threshold <= 1.0;
            assert!(right, "{outlier}, {levels}: {threshold}");
        }
    }
}

/// Cases of `method` from `tests/reference/calibration.py`: values, levels, and the threshold with
/// the least divergence of those that are tried.
#[cfg(test)]
pub(super) fn references(method: &str) -> Vec<(Histogram, f64, f32)> {
    let table = include_str!("../../tests/reference/calibration.txt");
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    let found: Vec<_> = fields
        .filter(|fields| fields[2] == method)
        .map(|fields| {
            let mut values = Histogram::default();
            match fields[0] {
                "rayleigh" => {
                    let quantile = |i: u32| (f64::from(i) + 0.5) / 1e5;
                    let bell = (0..100_000).map(|i| 0.5 * (-2.0 * quantile(i).ln()).sqrt());
                    values.record(&bell.map(|x| x as f32).collect::<Vec<_>>());
                }
                _ => values.record(&(1..100_000).map(|i| i as f32 / 1e5).collect::<Vec<_>>()),
            }
            let number = |i: usize| fields[i].parse::<f32>().unwrap();
            // Ten values far from the others.
            values.record(&[number(1); 10]);
            (values, f64::from(number(3)), number(4))
        })
        .collect();
    assert_eq!(found.len(), 32);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(counts: &[u64]) -> Linear {
        let numbered = (0..).zip(counts.iter().copied());
        Linear {
            width: 1.0,
            range: 1024,
            bins: numbered.filter(|bin| bin.1 > 0).collect(),
            count: counts.iter().sum(),
        }
    }

    #[test]
    fn divergence_by_hand() {
        // Bins 1, 3 | 2 with the last, 2, clipped into the third: p = 1/8, 3/8, 4/8; one level of
        // bins 1..3 quantized gives 2, 2, 2 of 6.
        let part = |p: f64, q: f64| p * (p / q).ln();
        let found = linear(&[1, 3, 2, 2]).divergence(3, 1, part);
        let third = 1.0 / 3.0;
        let expected = part(1.0 / 8.0, third) + part(3.0 / 8.0, third) + part(0.5, third);
        assert!((found - expected).abs() < 1e-12);
    }

    #[test]
    fn levels_by_hand() {
        // Two levels of three bins: 6 over two bins that hold something, 3 over one; 1 is clipped
        // into a bin that holds nothing. p = .2 0 .4 0 .3 .1, q = 1/3 0 1/3 0 1/3 0.
        let part = |p: f64, q: f64| (p - q) * (p / q).ln();
        let found = linear(&[2, 0, 4, 0, 3, 0, 1]).divergence(6, 2, part);
        let third = 1.0 / 3.0;
        let kept = part(0.2, third) + part(0.4, third) + part(0.3, third);
        assert!((found - kept - part(0.1, 1e-9)).abs() < 1e-12);
    }

    /// The definition over all bins, as `calibration.py` has it: p with the tail in its last bin, q
    /// by the ends of the levels.
    fn dense(counts: &[u64], used: usize, levels: usize) -> f64 {
        let mut q = vec![0.0; used];
        for level in 0..levels {
            let bins = level * used / levels..(level + 1) * used / levels;
            let held = counts[bins.clone()].iter().filter(|&&n| n > 0).count();
            let total: u64 = counts[bins.clone()].iter().sum();
            bins.filter(|&i| counts[i] > 0)
                .for_each(|i| q[i] = total as f64 / held as f64);
        }
        let mut p: Vec<f64> = counts[..used].iter().map(|&n| n as f64).collect();
        p[used - 1] += counts[used..].iter().sum::<u64>() as f64;
        let (all, kept) = (p.iter().sum::<f64>(), q.iter().sum::<f64>());
        let both = p.iter().map(|p| p / all).zip(q.iter().map(|q| q / kept));
        both.filter(|&(p, q)| p > 0.0 || q > 0.0)
            .map(|(p, q)| (p.max(1e-9), q.max(1e-9)))
            .map(|(p, q)| (p - q) * (p / q).ln())
            .sum()
    }

    #[test]
    fn only_bins_that_hold_something_are_visited() {
        let mut state = 3u64;
        let mut below = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % n
        };
        for case in 0..2000 {
            let length = 2 + below(200);
            let mut counts: Vec<u64> = (0..length).map(|_| below(5).pow(3)).collect();
            counts[0] += 1;
            let used = 1 + below(length) as usize;
            let levels = 1 + below(used as u64) as usize;
            let part = |p: f64, q: f64| (p - q) * (p / q).ln();
            let found = linear(&counts).divergence(used as u64, levels as u64, part);
            let expected = dense(&counts, used, levels);
            assert!(
                (found - expected).abs() <= 1e-9 * (1.0 + expected),
                "{case}"
            );
        }
    }

    /// The range of 0.001 to 1 ends at 2, where 4096 bins are 2^-11 wide; what is far away neither
    /// widens them nor overflows.
    #[test]
    fn bins_by_hand() {
        for far in [3.0, 1e6, f32::MAX] {
            let mut values = Histogram::default();
            values.record(&(1..=10_000).map(|i| i as f32 / 1e4).collect::<Vec<_>>());
            values.record(&[1.0; 20]);
            values.record(&[far]);
            let linear = Linear::new(&values.magnitudes(), 2048);
            assert_eq!((linear.width, linear.range), (2f64.powi(-11), 4096));
            // From 1/2 to 1/2 + 2^-11 there are 0.5000 to 0.5004.
            let half = linear.bins.iter().find(|bin| bin.0 == 1024).unwrap();
            assert_eq!(half.1, 5);
            assert_eq!(linear.bins.iter().map(|bin| bin.1).sum::<u64>(), 10_021);
            assert!(linear.candidates(128).len() < 300);
        }
    }
}
