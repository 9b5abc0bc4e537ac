//! Sums of two that are computed in floats, as multipliers and a shift.

use super::quantizer::Quantizer;
use crate::numbers::Numbers;
use crate::ops::Rounding;
use crate::tensor::Interval;

/// Pairs of operands that are tried of a sum.
const PAIRS: u64 = 1 << 18;
/// Times that a sum's multipliers are moved towards a pair that they miss.
const MOVES: usize = 400;

/// A sum of two that is computed in floats.
pub(super) struct FloatSum {
    pub(super) ratios: [f32; 2],
    fixed: f32,
    pub(super) quantizer: Quantizer,
}

impl FloatSum {
    pub(super) fn new(ratios: [f32; 2], zeros: [i64; 2], quantizer: Quantizer) -> Self {
        let [a, b] = zeros.map(|zero| zero as f32);
        let zeros = ratios[0].mul_add(a, ratios[1] * b);
        Self {
            ratios,
            fixed: quantizer.zero_point as f32 - zeros,
            quantizer,
        }
    }

    pub(super) fn real(&self, [a, b]: [i64; 2]) -> f64 {
        let [x, y] = self.ratios.map(f64::from);
        a as f64 * x + b as f64 * y + f64::from(self.fixed)
    }

    pub(super) fn apply(&self, [a, b]: [i64; 2]) -> i64 {
        let second = (b as f32).mul_add(self.ratios[1], self.fixed);
        let sum = (a as f32).mul_add(self.ratios[0], second);
        let [least, greatest] = self.quantizer.ends;
        (sum.round_ties_even() as i64).clamp(least, greatest)
    }
}

/// What a sum makes of every pair of integers, which are counted from their zero points.
pub(super) struct Pairs {
    ratios: [f64; 2],
    /// What the sum is of zeros, less the output's zero point.
    offset: f64,
    numbers: Numbers,
    intervals: [Interval; 2],
    made: Vec<i64>,
}

/// Multipliers, an offset and a shift.
pub(super) type Found = ([i64; 2], i64, u32);

impl Pairs {
    pub(super) fn new(
        sum: &FloatSum,
        intervals: [Interval; 2],
        shifts: [i64; 2],
        (numbers, raised): (Numbers, i64),
    ) -> Result<Self, String> {
        let [a, b] = intervals.map(|i| i.greatest.abs_diff(i.least) + 1);
        if a.saturating_mul(b) > PAIRS {
            return Err(format!("{a} times {b} pairs are more than are tried"));
        }
        let [first, second] = intervals;
        let pairs = (first.least..=first.greatest)
            .flat_map(|a| (second.least..=second.greatest).map(move |b| [a, b]));
        let made = pairs.map(|[a, b]| sum.apply([a + shifts[0], b + shifts[1]]) - raised);
        Ok(Self {
            ratios: sum.ratios.map(f64::from),
            offset: sum.real(shifts) - (sum.quantizer.zero_point) as f64,
            numbers,
            intervals,
            made: made.collect(),
        })
    }

    /// Constants that have all pairs: those of the ratios, or moved towards the pair that they miss by most
    /// until they miss none. `moved` is added to the output before it is rounded.
    pub(super) fn find(&self, moved: i64) -> Option<Found> {
        let greatest = self.ratios[0].max(self.ratios[1]);
        // Multipliers of 30 bits.
        let shift = (29.0 - greatest.log2().floor()).clamp(0.0, 50.0) as u32;
        let unit = f64::from(shift).exp2();
        let mut line = [
            self.ratios[0] * unit,
            self.ratios[1] * unit,
            (self.offset + moved as f64) * unit,
        ]
        .map(f64::round);
        for _ in 0..MOVES {
            let [a, b, offset] = line.map(|value| value as i64);
            if a < 1 || b < 1 || a.max(b) >= 1 << 31 || offset.unsigned_abs() >= 1 << 60 {
                return None;
            }
            let found = ([a, b], offset, shift);
            let Some((pair, missed)) = self.most_missed(found) else {
                return Some(found);
            };
            // In units in which the offset's factor is about as large as the operands.
            let along = [pair[0] as f64, pair[1] as f64, 100.0 * 100.0];
            let length = along[0] * along[0] + along[1] * along[1] + 100.0 * 100.0;
            for (value, step) in line.iter_mut().zip(along) {
                *value = (*value + missed * step / length).round();
            }
        }
        None
    }

    /// The pair whose sum is farthest from where it has the right integer, and how far.
    fn most_missed(&self, ([a, b], offset, shift): Found) -> Option<([i64; 2], f64)> {
        let [first, second] = self.intervals;
        let zero = self.numbers.zero_point();
        let [least, greatest] = [self.numbers.least(), self.numbers.greatest()];
        let mut made = self.made.iter();
        let mut most: Option<([i64; 2], f64)> = None;
        for x in first.least..=first.greatest {
            for y in second.least..=second.greatest {
                let sum = a * x + b * y + offset;
                let rounded = Rounding::HalfEven.shift(sum, shift) + zero;
                let expected = *made.next()?;
                if rounded.clamp(least, greatest) == expected {
                    continue;
                }
                let half = if rounded < expected { -0.5 } else { 0.5 };
                let edge = ((expected - zero) as f64 + half) * f64::from(shift).exp2();
                let miss = edge - sum as f64;
                // A little farther, so that it is not on the edge.
                let miss = miss + miss.signum();
                if most.is_none_or(|(_, known)| miss.abs() > known.abs()) {
                    most = Some(([x, y], miss));
                }
            }
        }
        most
    }
}
