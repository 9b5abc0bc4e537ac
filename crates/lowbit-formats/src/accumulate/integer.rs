//! Integers that hold partial sums.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use crate::error::{FormatError, check_range};
use crate::rounding::Rounding;
use crate::scalar::wide_power_of_two;

/// What happens to a sum beyond the limits, at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IntegerOverflow {
    /// It becomes the nearer limit.
    #[default]
    Saturate,
    /// It is taken modulo `2^bits`, as two's complement arithmetic does.
    Wrap,
}

/// A two's complement integer in units of `2^exponent`: `k 2^exponent` with `k` from `-2^(bits-1)` to
/// `2^(bits-1) - 1`.
///
/// What is added is rounded with the addition to a whole number of units; products of numbers whose
/// steps multiply to the unit need no rounding.
///
/// Text: `int24`, or `fixed(24,12)` for units of `2^-12`; `wrap` may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IntegerSum {
    bits: u32,
    exponent: i32,
    overflow: IntegerOverflow,
}

impl IntegerSum {
    /// Exponents of the unit.
    pub const EXPONENTS: RangeInclusive<i32> = -126..=96;

    /// Integers of `bits` bits in units of one.
    ///
    /// # Errors
    ///
    /// If `bits` is not from 2 to 64.
    pub fn new(bits: u32, overflow: IntegerOverflow) -> Result<Self, FormatError> {
        check_range("accumulate", "bits", bits, 2..=64)?;
        Ok(Self {
            bits,
            exponent: 0,
            overflow,
        })
    }

    /// The same in units of `2^exponent`.
    ///
    /// # Errors
    ///
    /// If the exponent is not in [`EXPONENTS`](Self::EXPONENTS).
    pub fn with_exponent(self, exponent: i32) -> Result<Self, FormatError> {
        check_range("accumulate", "exponent", exponent, Self::EXPONENTS)?;
        Ok(Self { exponent, ..self })
    }

    /// Bits, sign included.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The exponent of the unit.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// What happens beyond the limits.
    pub fn overflow(&self) -> IntegerOverflow {
        self.overflow
    }

    /// The least and the greatest integer.
    pub fn limits(&self) -> (i64, i64) {
        (i64::MIN >> (64 - self.bits), i64::MAX >> (64 - self.bits))
    }

    /// A whole number within the limits.
    pub(super) fn limited(&self, k: i128) -> i64 {
        let (min, max) = self.limits();
        match self.overflow {
            IntegerOverflow::Saturate => k.clamp(min.into(), max.into()) as i64,
            // The low bits, then the sign among them moved up and down again.
            IntegerOverflow::Wrap => (k as i64) << (64 - self.bits) >> (64 - self.bits),
        }
    }

    /// `k + x / 2^exponent`, rounded to a whole number and brought within the limits. `None` of NaN,
    /// and of an infinity that would have to wrap.
    pub(super) fn add(&self, k: i64, x: f64, rounding: Rounding, random: u32) -> Option<i64> {
        // Exact: f64 reaches much further down and up than products of f32.
        let x = x * wide_power_of_two(-self.exponent);
        if x.is_nan() || (x.is_infinite() && self.overflow == IntegerOverflow::Wrap) {
            return None;
        }
        // From 2^100 on x is a whole number of 2^47; it saturates any sum, and what wrapping
        // leaves of it is its remainder by 2^64.
        let x = match self.overflow {
            _ if x.abs() < 2f64.powi(100) => x,
            IntegerOverflow::Saturate => 2f64.powi(100).copysign(x),
            IntegerOverflow::Wrap => x % 2f64.powi(64),
        };
        let (whole, part) = (x.trunc(), x - x.trunc());
        Some(self.limited(round(i128::from(k) + whole as i128, part, rounding, random)))
    }

    /// An integer as the nearest f32.
    pub(super) fn to_f32(self, k: i64) -> f32 {
        let nearest = k as f32;
        (f64::from(nearest) * wide_power_of_two(self.exponent)) as f32
    }
}

/// `whole + part` rounded to a whole number; `part` is between -1 and 1.
fn round(whole: i128, part: f64, rounding: Rounding, random: u32) -> i128 {
    if part == 0.0 {
        return whole;
    }
    // Between `floor` and the number after it, nearer to this or to that.
    let (floor, half) = if part > 0.0 {
        (whole, 0.5)
    } else {
        (whole - 1, -0.5)
    };
    let negative = floor < 0;
    let up = match (rounding, part.total_cmp(&half)) {
        (Rounding::NearestEven, Ordering::Equal) => floor % 2 != 0,
        (Rounding::NearestAway, Ordering::Equal) => !negative,
        (Rounding::NearestUp, Ordering::Equal) => true,
        (Rounding::NearestEven | Rounding::NearestAway | Rounding::NearestUp, side) => {
            side == Ordering::Greater
        }
        (Rounding::TowardZero, _) => negative,
        (Rounding::Down, _) => false,
        (Rounding::Up, _) => true,
        (Rounding::ToOdd, _) => floor % 2 == 0,
        (Rounding::Stochastic { .. }, _) => {
            // What lies above the floor, as a fraction of 2^32.
            let above = if part > 0.0 { part } else { 1.0 + part };
            let fraction = (above * 2f64.powi(32)).min(f64::from(u32::MAX)) as u32;
            rounding.away_from_zero_u32(false, false, fraction, true, random)
        }
    };
    floor + i128::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(bits: u32, overflow: IntegerOverflow) -> IntegerSum {
        IntegerSum::new(bits, overflow).unwrap()
    }

    #[test]
    fn limits_by_hand() {
        let (saturating, wrapping) = (
            sums(4, IntegerOverflow::Saturate),
            sums(4, IntegerOverflow::Wrap),
        );
        assert_eq!(saturating.limits(), (-8, 7));
        for (k, x, clamped, wrapped) in [
            (7, 1.0, 7, -8),
            (-8, -1.0, -8, 7),
            (3, 16.0, 7, 3),
            (3, 2f64.powi(200), 7, 3),
            (-1, -(2f64.powi(120)), -8, -1),
        ] {
            assert_eq!(
                saturating.add(k, x, Rounding::NearestEven, 0),
                Some(clamped)
            );
            assert_eq!(wrapping.add(k, x, Rounding::NearestEven, 0), Some(wrapped));
        }
        assert_eq!(
            wrapping.add(0, f64::INFINITY, Rounding::NearestEven, 0),
            None
        );
        assert_eq!(
            saturating.add(0, f64::NEG_INFINITY, Rounding::NearestEven, 0),
            Some(-8)
        );
        assert_eq!(saturating.add(0, f64::NAN, Rounding::NearestEven, 0), None);
        assert_eq!(
            sums(64, IntegerOverflow::Wrap).limits(),
            (i64::MIN, i64::MAX)
        );
        let all = sums(64, IntegerOverflow::Wrap);
        assert_eq!(all.add(i64::MAX, 1.0, Rounding::Up, 0), Some(i64::MIN));
    }

    /// IEEE 754-2019, section 4.3, of 2.5, -2.5, 3.5 and -0.25 as sums.
    #[test]
    fn modes_by_hand() {
        let cases = [
            // k, x, nearest-even, nearest-away, nearest-up, toward zero, down, up, to odd
            (1, 1.5, [2, 3, 3, 2, 2, 3, 3]),
            (-1, -1.5, [-2, -3, -2, -2, -3, -2, -3]),
            (5, -1.5, [4, 4, 4, 3, 3, 4, 3]),
            (1, -2.5, [-2, -2, -1, -1, -2, -1, -1]),
            (1, -1.25, [0, 0, 0, 0, -1, 0, -1]),
            (1, 1e-300, [1, 1, 1, 1, 1, 2, 1]),
        ];
        for (k, x, expected) in cases {
            for (mode, expected) in Rounding::DETERMINISTIC.into_iter().zip(expected) {
                let sums = sums(8, IntegerOverflow::Saturate);
                assert_eq!(sums.add(k, x, mode, 0), Some(expected), "{k} {x} {mode}");
            }
        }
    }
}
