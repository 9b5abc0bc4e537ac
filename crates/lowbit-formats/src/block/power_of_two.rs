//! Rounding to a grid times a power of two.

use crate::rounding::Rounding;
use crate::scalar::Grid;

/// A power of two and its reciprocal, both exact in f32, or NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PowerOfTwo {
    pub(crate) factor: f32,
    pub(crate) reciprocal: f32,
}

impl PowerOfTwo {
    /// `2^(biased - 127)` for `biased` from 0 to 254, as E8M0 codes are read; NaN for 255.
    #[inline(always)]
    pub(crate) fn from_biased(biased: u32) -> Self {
        let nan = biased > 254;
        Self {
            factor: if nan { f32::NAN } else { power(biased) },
            reciprocal: if nan {
                f32::NAN
            } else {
                power(254u32.wrapping_sub(biased))
            },
        }
    }
}

/// `2^(biased - 127)`; the least power is a subnormal of f32. It is worked out beside vector code,
/// where a shift by a constant is cheaper than any number of places.
#[inline(always)]
fn power(biased: u32) -> f32 {
    f32::from_bits(if biased == 0 { 1 << 22 } else { biased << 23 })
}

/// `x` rounded to the grid times `scale.factor`. The result is exact as long as the grid's values
/// times the factor are numbers of f32.
#[inline(always)]
pub(crate) fn round_scaled(
    grid: impl Grid,
    x: f32,
    scale: PowerOfTwo,
    rounding: Rounding,
    random: u32,
) -> f32 {
    let scaled = nonzero(x * scale.reciprocal, x, rounding);
    grid.round(scaled, rounding, random) * scale.factor
}

/// Scaling may bring a small number down to zero. Directed rounding and rounding to odd must still
/// see that it lies beside zero; to nearest and stochastic rounding it makes no difference.
#[inline(always)]
pub(crate) fn nonzero(scaled: f32, x: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Down | Rounding::Up | Rounding::ToOdd if scaled == 0.0 && x != 0.0 => {
            f32::MIN_POSITIVE.copysign(x)
        }
        _ => scaled,
    }
}
