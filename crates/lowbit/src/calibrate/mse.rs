//! The least mean square error.

use crate::quantizers::{Bin, Histogram};

/// The threshold whose power of two above, `2^k`, gives the least mean square error of the grid
/// of integers times `s = 2^k / levels`: up to `levels - 1` above zero, and `levels` below it, where
/// a signed grid has one more.
///
/// The error of a bin is that of its value, or its middle, to the nearest number of the grid, and
/// `s^2 / 12` where it has several values and is wider than a quarter of a step. Tried are the octave
/// of the largest magnitude; those below it, until what is clipped weighs more than the least error;
/// and the one above it, since the grid lacks the integer of its threshold above zero, so that few
/// bits may hold a power of two better there.
///
/// Every threshold of an octave has the same error; the one in its middle, `2^(k - 1/2)`, leaves
/// training room on both sides, unless it would be above the largest magnitude in that one's octave.
pub fn mse(values: &Histogram, levels: f64) -> f32 {
    let largest = values.largest();
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    let bins = values.bins();
    let (positive, negative) = bins.split_at(bins.partition_point(|bin| !bin.is_negative()));
    let (positive, negative) = (cells(positive), cells(negative));
    let error = |k: i32| {
        let step = f64::from(k).exp2() / levels;
        let above = error(&positive, step, levels - 1.0);
        let below = error(&negative, step, levels);
        (above.0 + below.0, above.1 + below.1)
    };
    let top = f64::from(largest).log2().ceil() as i32;
    let (mut best, mut least) = (top, f64::INFINITY);
    for k in (i32::MIN..=top).rev() {
        let (rounded, clipped) = error(k);
        if rounded + clipped < least {
            (best, least) = (k, rounded + clipped);
        }
        // A smaller threshold clips no less.
        if clipped >= least {
            break;
        }
    }
    let (rounded, clipped) = error(top + 1);
    if rounded + clipped < least {
        return (f64::from(top) + 0.5).exp2() as f32;
    }
    ((f64::from(best) - 0.5).exp2() as f32).min(largest)
}

/// Values of nearly one magnitude.
struct Cell {
    magnitude: f64,
    width: f64,
    count: f64,
}

fn cells(bins: &[Bin]) -> Vec<Cell> {
    let cell = |bin: &Bin| {
        let (least, bound) = (f64::from(bin.least()), f64::from(bin.bound()));
        Cell {
            magnitude: (least + bound) / 2.0,
            width: bound - least,
            count: bin.count() as f64,
        }
    };
    bins.iter().map(cell).collect()
}

/// Sums of squared errors of magnitudes on the multiples of `step` up to `last` times that: of those
/// that are rounded, and of those beyond it.
fn error(cells: &[Cell], step: f64, last: f64) -> (f64, f64) {
    let greatest = last * step;
    let beyond = cells.partition_point(|cell| cell.magnitude <= greatest);
    let rounded = cells[..beyond].iter().map(|cell| {
        let x = cell.magnitude;
        cell.count
            * if cell.width > step / 4.0 {
                step * step / 12.0
            } else {
                (x - (x / step).round_ties_even() * step).powi(2)
            }
    });
    let clipped = cells[beyond..].iter();
    let clipped = clipped.map(|cell| cell.count * (cell.magnitude - greatest).powi(2));
    (rounded.sum(), clipped.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits from a linear congruence, as evenly spread numbers.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }

        /// One of seven kinds of sets.
        fn set(&mut self, kind: usize) -> Vec<f32> {
            let count = 20 + (self.uniform() * 2000.0) as usize;
            let scale = (8.0 * self.uniform() - 4.0).exp2();
            let one = |random: &mut Self| match kind {
                0 => random.uniform(),
                1 => random.normal(),
                2 => random.normal().max(0.0),
                3 => -random.uniform(),
                4 => (random.uniform() * 256.0).floor() / 256.0 / scale,
                5 => (random.uniform() * 7.0 - 3.0).floor() / scale,
                _ => random.normal() * (2.0 * random.normal()).exp(),
            };
            let mut set: Vec<f32> = (0..count).map(|_| (one(self) * scale) as f32).collect();
            if self.uniform() < 0.2 {
                set.push((scale * 30.0 * self.uniform()) as f32);
            }
            set
        }
    }

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.record(values);
        histogram
    }

    /// The octave of the threshold that calibration finds.
    fn octave(values: &[f32], bits: u32, signed: bool) -> i32 {
        let levels = f64::from(bits - u32::from(signed)).exp2();
        f64::from(mse(&histogram(values), levels)).log2().ceil() as i32
    }

    /// The squared error on the grid of TQT (arXiv 1903.08066, equation 4), value by value:
    /// `q = s clip(round(x / s), n, p)` with `s = 2^k / 2^(b - 1)`, `n = -2^(b - 1)` and
    /// `p = 2^(b - 1) - 1` if signed, else `s = 2^k / 2^b`, `n = 0` and `p = 2^b - 1`.
    fn exact(values: &[f32], k: i32, bits: u32, signed: bool) -> f64 {
        let levels = f64::from(bits - u32::from(signed)).exp2();
        let step = f64::from(k).exp2() / levels;
        let (n, p) = (if signed { -levels } else { 0.0 }, levels - 1.0);
        let round = |x: f64| (x / step).round_ties_even().clamp(n, p) * step;
        let errors = values.iter().map(|&x| f64::from(x));
        errors.map(|x| (x - round(x)).powi(2)).sum()
    }

    /// Signed integers of b bits hold -1, 0 and 1 under the threshold 2 without error, and under 1
    /// they lack 1.
    #[test]
    fn the_octave_above_the_largest_is_tried() {
        for bits in 2..=24 {
            assert_eq!(octave(&[-1.0, 0.0, 1.0], bits, true), 1, "{bits}");
            assert_eq!(octave(&[-1.0, 0.0, -1.0], bits, true), 0, "{bits}");
        }
    }

    /// 490 sets of seven kinds, each in all of seven widths: no octave of 64 has less error, but for
    /// ties within what a bin does not know.
    #[test]
    fn it_is_the_octave_of_least_error() {
        let mut random = Random(10);
        let (mut cases, mut ties) = (0, 0);
        for case in 0..490 {
            let values = random.set(case % 7);
            let signed = values.iter().any(|&x| x < 0.0);
            for bits in [2, 3, 4, 5, 6, 8, 12] {
                let errors = (-40..24).map(|k| exact(&values, k, bits, signed));
                let least = errors.fold(f64::INFINITY, f64::min);
                let found = exact(&values, octave(&values, bits, signed), bits, signed);
                assert!(
                    found <= least * 1.001 + 1e-12,
                    "{case}, {bits}: {found}, {least}"
                );
                cases += 1;
                ties += usize::from(found > least);
            }
        }
        assert_eq!(cases, 3430);
        assert!(ties * 500 < cases, "{ties}");
    }
}
