//! The least mean square error.

use crate::quantizers::Histogram;

const BINS: usize = 4096;

/// Powers of two below the largest magnitude that are tried.
const OCTAVES: i32 = 24;

/// The threshold whose power of two above, `2^k`, gives the least mean square error of the grid
/// with `levels` magnitudes: `s = 2^k / levels`, error `s^2 / 12` where a bin is wider than a
/// quarter of a step, that of the bin's middle elsewhere.
///
/// Tried are the octave of the largest magnitude, those below it, and the one above it: a signed grid
/// lacks the integer of its threshold, so that few bits may hold a power of two better there.
///
/// Every threshold of an octave has the same error; the one in its middle, `2^(k - 1/2)`, leaves
/// training room on both sides, unless it would be above the largest magnitude in that one's octave.
pub fn mse(values: &Histogram, levels: f64) -> f32 {
    let (width, counts) = values.magnitudes(BINS);
    let top = f64::from(values.largest()).log2().ceil() as i32;
    let best = (0..OCTAVES)
        .map(|i| top - i)
        .chain([top + 1])
        .map(|k| (k, error(width, &counts, f64::from(k).exp2(), levels)))
        .reduce(|best, next| if next.1 < best.1 { next } else { best });
    let k = best.map_or(top, |(k, _)| k);
    let middle = (f64::from(k) - 0.5).exp2() as f32;
    if k > top {
        return middle;
    }
    middle.min(values.largest())
}

/// Sum of squared errors of all values under the threshold `threshold`, a power of two.
fn error(width: f64, counts: &[u64], threshold: f64, levels: f64) -> f64 {
    let step = threshold / levels;
    let last = (levels - 1.0) * step;
    let even = step * step / 12.0;
    let each = counts.iter().enumerate().map(|(i, &count)| {
        let middle = (i as f64 + 0.5) * width;
        let error = if middle > last + step / 2.0 {
            (middle - last).powi(2)
        } else if width > step / 4.0 {
            even
        } else {
            (middle - ((middle / step).round_ties_even() * step).min(last)).powi(2)
        };
        count as f64 * error
    });
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The squared error of values rounded to `levels` magnitudes under `2^k`, one by one.
    fn exact(values: &[f32], k: i32, levels: f64) -> f64 {
        let step = f64::from(k).exp2() / levels;
        let round = |x: f64| (x / step).round_ties_even().min(levels - 1.0) * step;
        let errors = values.iter().map(|&x| f64::from(x).abs());
        errors.map(|x| (x - round(x)).powi(2)).sum()
    }

    /// Signed integers of two bits are -2 to 1: with a step of one they hold all of -1, 0 and 1, so
    /// the threshold is 2.
    #[test]
    fn the_octave_above_the_largest_is_tried() {
        let mut histogram = Histogram::default();
        histogram.record(&[-1.0, 0.0, 1.0]);
        assert_eq!(mse(&histogram, 2.0).log2().ceil(), 1.0);
    }

    #[test]
    fn it_is_the_octave_of_least_error() {
        // A bell with a far outlier: sums of twelve evenly spread numbers, and 40.
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state) / 4_294_967_296.0
        };
        let bell = (0..20_000).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0);
        let mut values: Vec<f32> = bell.map(|x| x as f32).collect();
        values.push(40.0);
        let mut histogram = Histogram::default();
        histogram.record(&values);
        for levels in [4.0, 8.0, 128.0] {
            let expected = (-4..=7)
                .min_by(|&a, &b| exact(&values, a, levels).total_cmp(&exact(&values, b, levels)))
                .unwrap();
            let found = f64::from(mse(&histogram, levels)).log2().ceil() as i32;
            assert_eq!(found, expected, "{levels}");
        }
    }
}
