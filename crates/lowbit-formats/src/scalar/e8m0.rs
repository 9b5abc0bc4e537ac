//! Powers of two in eight bits, the scales of microscaling.

use std::fmt;

use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Grid, ScalarFormat};

/// `2^(c - 127)` for the codes `c` from 0 to 254; 255 is NaN. No sign and no zero.
///
/// OCP microscaling formats, version 1.0, section 5.4.1 (E8M0). Numbers below `2^-127` become
/// `2^-127`; zero, negative numbers and infinities become NaN, as does what rounds beyond
/// `2^127`. Between two powers of two the significand, 1, is odd, so that both nearest modes
/// bring the middle to the larger one, as ml_dtypes does. (ml_dtypes 0.6.0 also brings everything
/// between `2^-127` and `2^-126` to the larger one; here those round as all others do.)
///
/// Text: `e8m0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct E8M0;

/// The bits of `2^-127`, an f32 subnormal.
const SMALLEST: u32 = 0x0040_0000;

/// The bits of `2^-126`.
const NORMAL: u32 = 0x0080_0000;

/// The bits of `2^127`.
const LARGEST: u32 = 0x7F00_0000;

impl FormatText for E8M0 {
    const EXAMPLES: &'static [&'static str] = &["e8m0"];

    fn has_name(name: &str) -> bool {
        name == "e8m0"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        match call.split(0)?.1 {
            [] => Ok(Self),
            [option, ..] => Err(Reason(format!(
                "`{}` is one argument too many",
                option.key()
            ))),
        }
    }
}

impl fmt::Display for E8M0 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("e8m0")
    }
}

impl Grid for E8M0 {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let bits = x.to_bits();
        // The power of two below, the distance to the one above, and how far `x` is.
        let subnormal = bits < NORMAL;
        let below = if subnormal {
            SMALLEST
        } else {
            bits & !(NORMAL - 1)
        };
        let step = if subnormal { SMALLEST } else { NORMAL };
        let cut = bits.saturating_sub(below);
        let fraction = if subnormal { cut << 10 } else { cut << 9 };
        let away = rounding.away_from_zero_u32(false, true, fraction, cut != 0, random);
        // The sum means nothing, and may wrap, for negative numbers and NaN.
        let rounded = below.wrapping_add(if away { step } else { 0 });
        let to_max = matches!(
            rounding,
            Rounding::TowardZero | Rounding::Down | Rounding::ToOdd
        );
        if !(x > 0.0 && x < f32::INFINITY) {
            f32::NAN
        } else if rounded <= LARGEST {
            f32::from_bits(rounded)
        } else if to_max {
            f32::from_bits(LARGEST)
        } else {
            f32::NAN
        }
    }
}

impl ScalarFormat for E8M0 {
    type Grid<'a> = Self;

    fn grid(&self) -> Self {
        *self
    }

    fn bits(&self) -> u32 {
        8
    }

    fn encode(&self, value: f32) -> u32 {
        if value > 0.0 && value < f32::INFINITY {
            value.to_bits() >> 23
        } else {
            255
        }
    }

    fn decode(&self, code: u32) -> f32 {
        match code & 255 {
            0 => f32::from_bits(SMALLEST),
            255 => f32::NAN,
            exponent => f32::from_bits(exponent << 23),
        }
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        None
    }

    fn facts(&self) -> Facts {
        let extent = Extent {
            min: self.min(),
            max: self.max(),
            min_normal: Some(self.min()),
            values: 255,
            infinity: false,
            nan: true,
            minus_zero: false,
        };
        Facts::new(self, extent)
    }

    fn min(&self) -> f32 {
        f32::from_bits(SMALLEST)
    }

    fn max(&self) -> f32 {
        f32::from_bits(LARGEST)
    }

    fn past_ends(&self) -> (f64, f64) {
        // Negative numbers become NaN wherever they lie.
        (f64::NEG_INFINITY, 128f64.exp2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ml_dtypes 0.6.0 casts f32 to `float8_e8m0fnu`; `None` is NaN.
    #[test]
    fn nearest_as_ml_dtypes() {
        let power = |exponent| crate::scalar::power_of_two(exponent);
        let cases = [
            (1.49, Some(127)),
            (1.5, Some(128)),
            (3.0, Some(129)),
            (6.0, Some(130)),
            (power(-127), Some(0)),
            (power(-128), Some(0)),
            (1.5 * power(-127), Some(1)),
            (1.49 * power(-126), Some(1)),
            (1.5 * power(-126), Some(2)),
            (1e-45, Some(0)),
            (1.4 * power(127), Some(254)),
            (1.5 * power(127), None),
            (0.0, None),
            (-0.0, None),
            (-1.0, None),
            (f32::INFINITY, None),
            (f32::NAN, None),
        ];
        for (x, code) in cases {
            let rounded = E8M0.round(x, Rounding::NearestEven, 0);
            assert_eq!(E8M0.encode(rounded), code.unwrap_or(255), "{x}");
            assert_eq!(rounded.is_nan(), code.is_none(), "{x}");
        }
    }

    #[test]
    fn codes_come_back() {
        for code in 0..256 {
            assert_eq!(E8M0.encode(E8M0.decode(code)), code);
        }
    }
}
