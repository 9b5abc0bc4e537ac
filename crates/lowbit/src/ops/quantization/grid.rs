//! The grid that a quantization's results lie on, for those who make integers of them.

use lowbit_formats::{IntegerRange, Rounding};

/// Values `(k - zero_point) step` for integers `k` from `least` to `greatest`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ValueGrid {
    /// The distance of neighbours.
    pub(crate) step: f64,
    pub(crate) zero_point: i64,
    pub(crate) least: i64,
    pub(crate) greatest: i64,
    /// How a number is brought to one of all these values; `None` where only some of them are values, or
    /// it is brought to others.
    pub(crate) rounding: Option<Rounding>,
}

/// The exponent of a power of two.
pub(crate) fn exponent(x: f64) -> Option<i32> {
    let exponent = x.log2();
    let whole = exponent.is_finite() && exponent.fract() == 0.0;
    (whole && exponent.exp2() == x).then_some(exponent as i32)
}

impl ValueGrid {
    /// The integers from zero on, where the step is a power of two.
    pub(crate) fn range(&self) -> Option<IntegerRange> {
        let integer = |k: i64| i128::from(k) - i128::from(self.zero_point);
        Some(IntegerRange {
            exponent: exponent(self.step)?,
            min: integer(self.least),
            max: integer(self.greatest),
        })
    }

    /// All multiples of a step from one to another, to the nearest, ties to the even integer.
    pub(crate) fn new(step: f64, [least, greatest]: [i64; 2]) -> Self {
        Self {
            step,
            zero_point: 0,
            least,
            greatest,
            rounding: Some(Rounding::NearestEven),
        }
    }

    /// Some of the multiples of a step.
    pub(crate) fn some(step: f64, integers: [i64; 2]) -> Self {
        Self {
            rounding: None,
            ..Self::new(step, integers)
        }
    }

    /// The odd multiples of a step up to one and down to its opposite.
    pub(crate) fn odd(step: f64, greatest: i64) -> Self {
        Self::some(step, [-greatest, greatest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a zero point of 3, the integers from 0 to 15 count from -3 to 12.
    #[test]
    fn integers_are_counted_from_zero() {
        let grid = ValueGrid {
            zero_point: 3,
            ..ValueGrid::new(0.25, [0, 15])
        };
        let range = IntegerRange {
            exponent: -2,
            min: -3,
            max: 12,
        };
        assert_eq!(grid.range(), Some(range));
        assert_eq!(ValueGrid::new(0.3, [0, 15]).range(), None);
    }

    #[test]
    fn powers_of_two_are_known() {
        assert_eq!(exponent(0.25), Some(-2));
        assert_eq!(exponent(1024.0), Some(10));
        assert_eq!(exponent(f64::from(f32::MIN_POSITIVE)), Some(-126));
        for no in [0.0, -1.0, 0.3, 1.0 + f64::EPSILON, f64::INFINITY, f64::NAN] {
            assert_eq!(exponent(no), None);
        }
    }
}
