//! Integers, and reals stored as integers with a scale and a zero point.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::kernel;
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fixed::{ClampedGrid, decode_steps, encode_steps, step_limits};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Grid, ScalarFormat};

/// Integers of `bits` bits: from `-2^(bits-1)` to `2^(bits-1) - 1`, or from 0 to `2^bits - 1`.
///
/// A narrow signed integer leaves out its lowest value, a narrow unsigned one its highest.
/// Numbers beyond the limits, infinities included, become the limits; minus zero becomes zero;
/// NaN stays NaN, which no code holds. Limits that f32 cannot hold are cut to the f32 below.
///
/// Text: `int8`, `uint4`, `int8(narrow)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Integer {
    bits: u8,
    signed: bool,
    narrow: bool,
}

impl Integer {
    /// Integers of the full range.
    ///
    /// # Errors
    ///
    /// If `bits` is not in 1..=32.
    pub fn new(bits: u8, signed: bool) -> Result<Self, FormatError> {
        check_range(if signed { "int" } else { "uint" }, "bits", bits, 1..=32)?;
        Ok(Self {
            bits,
            signed,
            narrow: false,
        })
    }

    /// The same in the narrow range.
    ///
    /// # Errors
    ///
    /// If there is only one bit.
    pub fn narrow(self) -> Result<Self, FormatError> {
        if self.bits < 2 {
            return Err(FormatError::parameter(
                if self.signed { "int" } else { "uint" },
                "bits",
                self.bits,
                "2 to 32 for the narrow range",
            ));
        }
        Ok(Self {
            narrow: true,
            ..self
        })
    }

    /// Whether there are negative values.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Whether the range is narrow.
    pub fn is_narrow(&self) -> bool {
        self.narrow
    }

    /// The smallest and the largest integer.
    pub fn limits(&self) -> (i64, i64) {
        let (min, max) = step_limits(self.bits, self.signed, self.narrow && self.signed);
        (min, max - i64::from(self.narrow && !self.signed))
    }

    /// Checks a scale and a zero point, and prepares them for rounding.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if the scale is not a positive normal number, some integer stands
    /// for a number beyond f32, or the zero point lies outside the integer's limits.
    pub fn affine(&self, affine: Affine) -> Result<AffineGrid, FormatError> {
        let (min, max) = self.limits();
        let zero_point = i64::from(affine.zero_point);
        let largest = (max - zero_point).max(zero_point - min) as f32;
        if !affine.scale.is_normal() || affine.scale < 0.0 || (largest * affine.scale).is_infinite()
        {
            return Err(FormatError::parameter(
                "affine",
                "scale",
                affine.scale,
                "a positive normal number whose multiples f32 holds",
            ));
        }
        check_range("affine", "zero_point", zero_point, min..=max)?;
        Ok(AffineGrid {
            scale: affine.scale,
            steps: ClampedGrid::integers(min - zero_point, max - zero_point),
        })
    }

    /// The integers `clamp(round(x / scale) + zero_point)` of each number, as codes.
    ///
    /// # Errors
    ///
    /// As [`affine`](Self::affine), and [`FormatError::Parameter`] if the number of random bits is
    /// not in 1..=32.
    pub fn encode_affine(
        &self,
        affine: Affine,
        input: &[f32],
        rounding: Rounding,
    ) -> Result<Vec<u32>, FormatError> {
        let steps = self.affine(affine)?.steps;
        let scaled = kernel::map_to_vec(input, |x| x / affine.scale);
        let steps = crate::scalar::quantize_to_vec(steps, &scaled, rounding)?;
        let zero_point = affine.zero_point as f32;
        let (limits, bits) = (self.limits(), self.bits);
        Ok(kernel::map_to_vec(&steps, |steps| {
            encode_steps(steps + zero_point, limits, bits)
        }))
    }

    /// The numbers `(q - zero_point) * scale` that codes stand for.
    ///
    /// # Errors
    ///
    /// As [`affine`](Self::affine).
    pub fn decode_affine(&self, affine: Affine, codes: &[u32]) -> Result<Vec<f32>, FormatError> {
        self.affine(affine)?;
        let zero_point = i64::from(affine.zero_point);
        Ok(kernel::map_to_vec(codes, |code| {
            let steps = decode_steps(code, self.bits, self.signed) - zero_point;
            steps as f32 * affine.scale
        }))
    }
}

impl FormatText for Integer {
    const EXAMPLES: &'static [&'static str] = &[
        "int8",
        "int8(narrow)",
        "int4",
        "int16",
        "uint8",
        "uint4",
        "uint8(narrow)",
    ];

    fn has_name(name: &str) -> bool {
        name.starts_with("int") || name.starts_with("uint")
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (signed, bits) = match call.name().strip_prefix('u') {
            Some(rest) => (false, rest),
            None => (true, call.name()),
        };
        let bits = bits
            .strip_prefix("int")
            .and_then(|bits| bits.parse().ok())
            .ok_or_else(|| Reason("the number of bits is missing or out of range".into()))?;
        let mut format = Self::new(bits, signed)?;
        for option in call.split(0)?.1 {
            format = match option.flag()? {
                "narrow" => format.narrow()?,
                other => return Err(Reason::option(other, "narrow")),
            };
        }
        Ok(format)
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.signed { "" } else { "u" };
        let narrow = if self.narrow { "(narrow)" } else { "" };
        write!(f, "{sign}int{}{narrow}", self.bits)
    }
}

impl ScalarFormat for Integer {
    type Grid<'a> = ClampedGrid;

    fn grid(&self) -> ClampedGrid {
        let (min, max) = self.limits();
        ClampedGrid::integers(min, max)
    }

    fn bits(&self) -> u32 {
        self.bits.into()
    }

    fn encode(&self, value: f32) -> u32 {
        encode_steps(value, self.limits(), self.bits)
    }

    fn decode(&self, code: u32) -> f32 {
        let (min, max) = self.limits();
        // The narrow range leaves one code without a value.
        decode_steps(code, self.bits, self.signed).clamp(min, max) as f32
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        let (min, max) = self.limits();
        Some(IntegerRange {
            exponent: 0,
            min: min.into(),
            max: max.into(),
        })
    }

    fn facts(&self) -> Facts {
        let (min, max) = self.limits();
        let extent = Extent::of_steps(self.min(), self.max());
        let values = (max - min + 1) as u64;
        Facts::new(self, Extent { values, ..extent })
    }

    fn min(&self) -> f32 {
        self.grid().limits().0
    }

    fn max(&self) -> f32 {
        self.grid().limits().1
    }
}

/// How an integer stands for a real number: `x = (q - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Affine {
    /// The real distance between neighbouring integers, positive.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero_point: i32,
}

/// Rounds to `(clamp(round(x / scale) + zero_point, qmin, qmax) - zero_point) * scale`.
///
/// The quotient and the product are those of f32, so both are exact when the scale is a power of
/// two. Since the zero point is a whole number, `round(x / scale)` is clamped to
/// `qmin - zero_point..=qmax - zero_point`, which is the same.
#[derive(Debug, Clone, Copy)]
pub struct AffineGrid {
    scale: f32,
    steps: ClampedGrid,
}

impl AffineGrid {
    /// The smallest and the largest number that rounding gives.
    pub fn limits(&self) -> (f32, f32) {
        let (min, max) = self.steps.limits();
        (min * self.scale, max * self.scale)
    }
}

impl Grid for AffineGrid {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        self.steps.round(x / self.scale, rounding, random) * self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_hand() {
        let int = |bits, signed| Integer::new(bits, signed).unwrap();
        assert_eq!(int(8, true).limits(), (-128, 127));
        assert_eq!(int(8, true).narrow().unwrap().limits(), (-127, 127));
        assert_eq!(int(4, false).limits(), (0, 15));
        assert_eq!(int(4, false).narrow().unwrap().limits(), (0, 14));
        assert_eq!(int(1, true).limits(), (-1, 0));
        assert!(Integer::new(0, true).is_err());
        assert!(Integer::new(33, false).is_err());
        assert!(int(1, true).narrow().is_err());
    }

    #[test]
    fn affine_by_hand() {
        // uint8 with scale 0.5 and zero point 10 holds -5 to 122.5 in halves.
        let grid = Integer::new(8, false)
            .unwrap()
            .affine(Affine {
                scale: 0.5,
                zero_point: 10,
            })
            .unwrap();
        let round = |x| grid.round(x, Rounding::NearestEven, 0);
        assert_eq!(grid.limits(), (-5.0, 122.5));
        for (x, expected) in [
            (0.0, 0.0),
            (0.3, 0.5),
            (0.25, 0.0),
            (0.75, 1.0),
            (-100.0, -5.0),
            (1e9, 122.5),
            (f32::INFINITY, 122.5),
        ] {
            assert_eq!(round(x), expected, "{x}");
        }
        assert!(round(f32::NAN).is_nan());
    }

    /// The codes of the same format: x / 0.5 + 10, clamped to 0..=255.
    #[test]
    fn affine_codes_by_hand() {
        let uint8 = Integer::new(8, false).unwrap();
        let affine = Affine {
            scale: 0.5,
            zero_point: 10,
        };
        let input = [0.0, 0.3, -100.0, 1e9, f32::NAN];
        let codes = uint8
            .encode_affine(affine, &input, Rounding::NearestEven)
            .unwrap();
        assert_eq!(codes, [10, 11, 0, 255, 0]);
        assert_eq!(
            uint8.decode_affine(affine, &codes[..4]).unwrap(),
            [0.0, 0.5, -5.0, 122.5]
        );
    }

    #[test]
    fn bad_scales_and_zero_points_are_errors() {
        let int8 = Integer::new(8, true).unwrap();
        let affine = |scale, zero_point| int8.affine(Affine { scale, zero_point });
        assert!(affine(1.0, -128).is_ok());
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40, 1e37] {
            assert!(affine(scale, 0).is_err());
        }
        assert!(affine(1.0, 128).is_err());
    }
}
