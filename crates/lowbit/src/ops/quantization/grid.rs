//! The grid that a quantization's results lie on, for those who make integers of them.

/// Values `(k - zero_point) step` for integers `k` from `least` to `greatest`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ValueGrid {
    /// The distance of neighbours.
    pub(crate) step: f64,
    pub(crate) zero_point: i64,
    pub(crate) least: i64,
    pub(crate) greatest: i64,
    /// Whether a number becomes the nearest of all these values, ties to the even integer. Otherwise
    /// only some of them are values, or others are nearest.
    pub(crate) nearest: bool,
}

impl ValueGrid {
    /// All multiples of a step from one to another.
    pub(crate) fn new(step: f64, [least, greatest]: [i64; 2]) -> Self {
        Self {
            step,
            zero_point: 0,
            least,
            greatest,
            nearest: true,
        }
    }

    /// Some of the multiples of a step.
    pub(crate) fn some(step: f64, integers: [i64; 2]) -> Self {
        Self {
            nearest: false,
            ..Self::new(step, integers)
        }
    }

    /// The odd multiples of a step up to one and down to its opposite.
    pub(crate) fn odd(step: f64, greatest: i64) -> Self {
        Self::some(step, [-greatest, greatest])
    }
}
