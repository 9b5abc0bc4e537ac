//! What KL-J and entropy share: the threshold under which the quantized values are distributed
//! most like the values.

use rayon::prelude::*;

use crate::quantizers::Histogram;

/// Thresholds that are tried, spread evenly over the bins.
const CANDIDATES: usize = 256;

/// What stands for the probability of a bin that only one of two distributions has.
const FLOOR: f64 = 1e-9;

/// The threshold with the least divergence of the distribution of magnitudes below it, what lies
/// above put into its last bin, from the same quantized to `levels` and spread over the bins of
/// each level again. `each(p, q)` is a bin's part of the divergence.
///
/// Zeros do not count: every threshold keeps them. Where there are no more bins than levels,
/// nothing can be told, and the threshold is the largest magnitude.
pub(super) fn least_divergence(
    values: &Histogram,
    levels: f64,
    bins: u32,
    each: impl Fn(f64, f64) -> f64 + Sync,
) -> f32 {
    let (width, counts) = values.magnitudes(bins as usize);
    if counts.len() as f64 <= levels {
        return values.largest();
    }
    let levels = levels as usize;
    let stride = (counts.len() / CANDIDATES).max(1);
    let candidates: Vec<usize> = (levels..counts.len())
        .step_by(stride)
        .chain([counts.len()])
        .collect();
    let divergences: Vec<f64> = candidates
        .par_iter()
        .map(|&used| divergence(&counts, used, levels, &each))
        .collect();
    let best = (0..candidates.len())
        .reduce(|best, next| {
            if divergences[next] < divergences[best] {
                next
            } else {
                best
            }
        })
        .map_or(counts.len(), |best| candidates[best]);
    ((best as f64 * width) as f32).min(values.largest())
}

fn divergence(counts: &[u64], used: usize, levels: usize, each: impl Fn(f64, f64) -> f64) -> f64 {
    let quantized = quantize(&counts[..used], levels);
    let above: u64 = counts[used..].iter().sum();
    let kept: u64 = counts[..used].iter().sum();
    if kept == 0 {
        return f64::INFINITY;
    }
    let (all, kept) = ((kept + above) as f64, kept as f64);
    let part = |i: usize| {
        let count = counts[i] + if i + 1 == used { above } else { 0 };
        let (p, q) = (count as f64 / all, quantized[i] / kept);
        if p == 0.0 && q == 0.0 {
            0.0
        } else {
            each(p.max(FLOOR), q.max(FLOOR))
        }
    };
    (0..used).map(part).sum()
}

/// Counts gathered into `levels` and spread evenly over those bins of each that hold something.
fn quantize(counts: &[u64], levels: usize) -> Vec<f64> {
    let mut spread = vec![0.0; counts.len()];
    for level in 0..levels {
        let bins = level * counts.len() / levels..(level + 1) * counts.len() / levels;
        let held = counts[bins.clone()].iter().filter(|&&n| n > 0).count();
        let total: u64 = counts[bins.clone()].iter().sum();
        for i in bins.filter(|&i| counts[i] > 0) {
            spread[i] = total as f64 / held as f64;
        }
    }
    spread
}

/// Cases of `method` from `tests/reference/calibration.py`: values, levels, and the threshold with
/// the least divergence of those that are tried.
#[cfg(test)]
pub(super) fn references(method: &str) -> Vec<(Histogram, f64, f32)> {
    let table = include_str!("../../tests/reference/calibration.txt");
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    let found: Vec<_> = fields
        .filter(|fields| fields[1] == method)
        .map(|fields| {
            let mut values = Histogram::default();
            match fields[0] {
                // Rayleigh magnitudes, and ten outliers that would leave a coarse grid one level
                // for all else.
                "rayleigh" => {
                    let quantile = |i: u32| (f64::from(i) + 0.5) / 1e5;
                    let bell = (0..100_000).map(|i| 0.5 * (-2.0 * quantile(i).ln()).sqrt());
                    values.record(&bell.map(|x| x as f32).collect::<Vec<_>>());
                    values.record(&[50.0; 10]);
                }
                _ => values.record(&(1..100_000).map(|i| i as f32 / 1e5).collect::<Vec<_>>()),
            }
            (
                values,
                fields[2].parse().unwrap(),
                fields[5].parse().unwrap(),
            )
        })
        .collect();
    assert_eq!(found.len(), 3);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantized_counts_by_hand() {
        // Two levels of three bins: 6 over two bins that hold something, 3 over one.
        assert_eq!(
            quantize(&[2, 0, 4, 0, 3, 0], 2),
            [3.0, 0.0, 3.0, 0.0, 3.0, 0.0]
        );
    }

    #[test]
    fn divergence_by_hand() {
        // Bins 1, 3 | 2 with the last, 2, clipped into the third: p = 1/8, 3/8, 4/8; one level of
        // bins 1..3 quantized gives 2, 2, 2 of 6.
        let part = |p: f64, q: f64| p * (p / q).ln();
        let found = divergence(&[1, 3, 2, 2], 3, 1, part);
        let third = 1.0 / 3.0;
        let expected = part(1.0 / 8.0, third) + part(3.0 / 8.0, third) + part(0.5, third);
        assert!((found - expected).abs() < 1e-12);
    }
}
