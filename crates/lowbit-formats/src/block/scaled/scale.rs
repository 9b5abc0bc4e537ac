//! How a block's scale follows from its largest magnitude.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::block::quotient;
use crate::rounding::Rounding;
use crate::scalar::float::Float;
use crate::scalar::float::grid::NarrowFloatGrid;
use crate::scalar::{Grid, ScalarFormat, Wide};

/// The type in which scales are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleType {
    /// 32 bits.
    #[default]
    F32,
    /// The upper 16 bits of an f32.
    Bf16,
    /// IEEE 754 binary16.
    F16,
}

impl ScaleType {
    /// Bits of a scale.
    pub fn bits(self) -> u32 {
        match self {
            Self::F32 => 32,
            Self::Bf16 | Self::F16 => 16,
        }
    }

    /// The name in the text of a format.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "fp32",
            Self::Bf16 => "bf16",
            Self::F16 => "fp16",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [Self::F32, Self::Bf16, Self::F16];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// A scale, and how a number is divided by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quotient {
    /// What elements are multiplied by.
    pub(crate) scale: f32,
    /// The reciprocal of the scale, rounded once, or one.
    pub(crate) factor: f32,
    /// One, or the scale; infinity for a scale of zero, so that quotients are zero.
    pub(crate) divisor: f32,
}

impl Quotient {
    /// One of the two operations is by one, which changes nothing.
    #[inline(always)]
    pub(crate) fn divide(self, x: f32) -> f32 {
        x * self.factor / self.divisor
    }

    /// As [`divide`](Self::divide), of a number that f32 need not hold.
    pub(crate) fn divide_wide(self, x: Wide) -> f32 {
        if self.divisor == 1.0 {
            quotient::product_to_odd(x, self.factor)
        } else {
            quotient::to_odd(x, self.divisor)
        }
    }
}

/// The constants of a format's scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaleRule {
    max: f32,
    eps: u32,
    kind: ScaleType,
    half: NarrowFloatGrid,
    reciprocal: bool,
}

/// The largest number of bfloat16.
const BF16_MAX: u32 = 0x7F7F_0000;

impl ScaleRule {
    pub(crate) fn new(max: f32, eps: u32, kind: ScaleType, reciprocal: bool) -> Self {
        let half = Float::named("fp16").expect("a named format").saturating();
        Self {
            max,
            eps,
            kind,
            half: NarrowFloatGrid::new(&half.grid()).expect("a format far from the ends of f32"),
            reciprocal,
        }
    }

    /// The scale for the f32 bits of the largest magnitude.
    #[inline(always)]
    pub(crate) fn quotient(&self, largest: u32) -> Quotient {
        let magnitude = f32::from_bits(largest.max(self.eps));
        let special = largest >= f32::INFINITY.to_bits();
        self.quotient_of(
            magnitude / self.max,
            #[inline(always)]
            || self.max / magnitude,
            special,
        )
    }

    /// As [`quotient`](Self::quotient), for the exact largest magnitude; `special` says whether NaN
    /// or an infinity is in the block.
    pub(crate) fn quotient_wide(&self, largest: Wide, special: bool) -> Quotient {
        let eps = f32::from_bits(self.eps);
        let magnitude = match largest.compare(eps.into()) {
            Ordering::Less => f64::from(eps).into(),
            _ => largest,
        };
        let factor = || quotient::nearest_inverse(self.max, magnitude);
        self.quotient_of(quotient::nearest(magnitude, self.max), factor, special)
    }

    /// For a scale that has yet to become one of its type, and the factor to take if numbers are
    /// multiplied.
    #[inline(always)]
    fn quotient_of(&self, scale: f32, factor: impl Fn() -> f32, special: bool) -> Quotient {
        let scale = match self.kind {
            ScaleType::F32 => scale,
            ScaleType::Bf16 => bf16(scale),
            ScaleType::F16 => self.half.round(scale, Rounding::NearestEven, 0),
        };
        let scale = if special { f32::NAN } else { scale };
        if !self.reciprocal {
            let divisor = if scale == 0.0 { f32::INFINITY } else { scale };
            return Quotient {
                scale,
                factor: 1.0,
                divisor,
            };
        }
        // Comparisons that leave NaN as it is.
        let factor = factor();
        let factor = if special { f32::NAN } else { factor };
        let factor = if factor > f32::MAX { f32::MAX } else { factor };
        Quotient {
            scale,
            factor,
            divisor: 1.0,
        }
    }
}

/// A positive number rounded to bfloat16, to nearest-even, saturating.
#[inline(always)]
fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    f32::from_bits(rounded.min(BF16_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::float::Float;

    /// Against the formats of those names.
    #[test]
    fn scales_are_numbers_of_their_type() {
        for (kind, name) in [(ScaleType::Bf16, "bf16"), (ScaleType::F16, "fp16")] {
            let format = Float::named(name).unwrap().saturating();
            let rule = ScaleRule::new(1.0, 0, kind, false);
            for bits in (0..f32::INFINITY.to_bits()).step_by(10_007) {
                let expected = format.round_single(f32::from_bits(bits), Rounding::NearestEven, 0);
                assert_eq!(rule.quotient(bits).scale, expected, "{name} {bits:x}");
            }
        }
    }

    /// By hand: 448 / 448 is one, and 3 times the reciprocal of 3 is one.
    #[test]
    fn quotients() {
        let scale = |max, x: f32, reciprocal| {
            ScaleRule::new(max, 0, ScaleType::F32, reciprocal).quotient(x.to_bits())
        };
        assert_eq!(scale(448.0, 448.0, false).scale, 1.0);
        assert_eq!(scale(448.0, 448.0, false).divide(17.0), 17.0);
        assert_eq!(scale(1.0, 3.0, true).divide(3.0), 1.0);
        // 10 / 3 * (1 / 3) beside 10 / 3 / 3: 1/3 is 11184811 * 2^-25, 10/3 13981013 * 2^-22.
        let x = 10.0 / 3.0;
        assert_eq!(scale(1.0, 3.0, true).divide(x), x * (1.0 / 3.0));
        assert_eq!(scale(1.0, 3.0, false).divide(x), x / 3.0);
        for reciprocal in [false, true] {
            assert_eq!(scale(448.0, 0.0, reciprocal).divide(0.0), 0.0);
            let tiny = scale(1.0, f32::from_bits(1), reciprocal);
            assert!(tiny.divide(f32::from_bits(1)).is_finite());
            assert!(scale(1.0, f32::NAN, reciprocal).scale.is_nan());
            assert!(scale(1.0, f32::INFINITY, reciprocal).divide(1.0).is_nan());
        }
    }
}
