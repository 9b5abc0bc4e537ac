//! The grid that a quantization's results lie on, for those who make integers of them.

use lowbit_formats::Rounding;

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

impl ValueGrid {
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
