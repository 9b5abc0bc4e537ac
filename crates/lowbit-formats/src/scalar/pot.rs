//! Powers of two.

use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Grid, ScalarFormat, power_of_two};

const SIGN: u32 = 1 << 31;
const FRACTION: u32 = 23;

/// Zero and plus or minus powers of two.
///
/// With `bits` = b there are `2^(b-1) - 1` powers: the values are 0 and `+-2^e` with `e` from
/// `max_exponent - 2^(b-1) + 2` to `max_exponent`. (The set of "Additive Powers-of-Two
/// Quantization", arXiv 1909.13144, section 2.1, with one power less, so that zero has a code.) A
/// code is a sign bit and, below it, 0 for zero or the exponent counted from 1 upwards.
///
/// Rounding looks at values: nearest is nearest in value, so 2^e and 2^(e+1) part at 1.5 * 2^e,
/// where a tie goes to the even code; zero is the lower neighbour of the smallest power. Numbers
/// beyond the largest power, also infinite ones, go to it. -0.0 becomes 0.0, NaN stays NaN (its
/// code is that of zero), and subnormals are numbers like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PowerOfTwo {
    bits: u8,
    max_exponent: i8,
}

impl PowerOfTwo {
    /// Powers of two of `bits` bits (2 to 8) up to 1.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if `bits` is out of range.
    pub fn new(bits: u8) -> Result<Self, FormatError> {
        check_range("pot", "bits", bits, 2..=8)?;
        Ok(Self {
            bits,
            max_exponent: 0,
        })
    }

    /// The same with powers up to `2^max_exponent`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if a power is not a normal `f32`.
    pub fn with_max_exponent(self, max_exponent: i8) -> Result<Self, FormatError> {
        let format = Self {
            max_exponent,
            ..self
        };
        if format.min_exponent() < -126 {
            let expected = format!("{} to 127", -126 + self.powers() - 1);
            return Err(FormatError::parameter(
                "pot",
                "max_exponent",
                max_exponent,
                expected,
            ));
        }
        Ok(format)
    }

    /// The largest exponent.
    pub fn max_exponent(&self) -> i32 {
        self.max_exponent.into()
    }

    /// The smallest exponent.
    pub fn min_exponent(&self) -> i32 {
        self.max_exponent() - self.powers() + 1
    }

    /// How many powers there are.
    fn powers(&self) -> i32 {
        (1 << (self.bits - 1)) - 1
    }

    /// All values in ascending order.
    pub fn values(&self) -> Vec<f32> {
        let powers = || (self.min_exponent()..=self.max_exponent()).map(power_of_two);
        powers()
            .rev()
            .map(|x| -x)
            .chain([0.0])
            .chain(powers())
            .collect()
    }

    /// The code of `x` rounded, in the lowest `bits` bits.
    pub fn encode(&self, x: f32, rounding: Rounding, random: u32) -> u32 {
        let value = self.grid().round(x, rounding, random);
        if value == 0.0 || value.is_nan() {
            return 0;
        }
        let exponent = (value.abs().to_bits() >> FRACTION) as i32 - 127;
        let sign = u32::from(value < 0.0) << (self.bits - 1);
        sign | (exponent - self.min_exponent() + 1) as u32
    }

    /// The value of a code; bits above the lowest `bits` are ignored.
    pub fn decode(&self, code: u32) -> f32 {
        let sign = 1 << (self.bits - 1);
        let magnitude = code & (sign - 1);
        if magnitude == 0 {
            return 0.0;
        }
        let power = power_of_two(self.min_exponent() + magnitude as i32 - 1);
        if code & sign == 0 { power } else { -power }
    }
}

impl FormatText for PowerOfTwo {
    const EXAMPLES: &'static [&'static str] = &["pot(4)", "pot(5,max=2)"];

    fn has_name(name: &str) -> bool {
        name == "pot"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (numbers, options) = call.split(1)?;
        let format = Self::new(numbers[0].number("bits")?)?;
        options
            .iter()
            .try_fold(format, |format, option| match option.key() {
                "max" => Ok(format.with_max_exponent(option.number("max")?)?),
                other => Err(Reason::option(other, "max=exponent")),
            })
    }
}

impl fmt::Display for PowerOfTwo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max_exponent {
            0 => write!(f, "pot({})", self.bits),
            max => write!(f, "pot({},max={max})", self.bits),
        }
    }
}

impl ScalarFormat for PowerOfTwo {
    type Grid<'a> = PowerOfTwoGrid;

    fn grid(&self) -> PowerOfTwoGrid {
        PowerOfTwoGrid {
            smallest: power_of_two(self.min_exponent()).to_bits(),
            largest: power_of_two(self.max_exponent()).to_bits(),
        }
    }

    fn encode(&self, value: f32) -> u32 {
        Self::encode(self, value, Rounding::NearestEven, 0)
    }

    fn decode(&self, code: u32) -> f32 {
        Self::decode(self, code)
    }

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        fields(digits, &[("sign", 1)], "magnitude")
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        IntegerRange::of_values(&self.values())
    }

    fn facts(&self) -> Facts {
        let count = self.values().len();
        Facts::new(self, Extent::of_list(count, self.min(), self.max()))
    }

    fn bits(&self) -> u32 {
        self.bits.into()
    }

    fn min(&self) -> f32 {
        -self.max()
    }

    fn max(&self) -> f32 {
        power_of_two(self.max_exponent())
    }
}

/// The constants of rounding to powers of two.
#[derive(Debug, Clone, Copy)]
pub struct PowerOfTwoGrid {
    /// The smallest power's bits.
    smallest: u32,
    /// The largest power's bits.
    largest: u32,
}

impl PowerOfTwoGrid {
    /// A magnitude over the smallest power, which it is below, in 2^-32, rounded down.
    #[inline(always)]
    fn part_of_smallest(&self, magnitude: u32) -> u32 {
        // Subnormals have the exponent of the smallest normal numbers, and no hidden bit.
        let exponent = (magnitude >> FRACTION).max(1);
        let hidden = u32::from(magnitude >> FRACTION != 0) << FRACTION;
        let significand = (magnitude & ((1 << FRACTION) - 1) | hidden) << (31 - FRACTION);
        let below = (self.smallest >> FRACTION).wrapping_sub(exponent);
        match below {
            0 => significand << 1,
            1..=32 => significand >> (below - 1),
            _ => 0,
        }
    }
}

impl Grid for PowerOfTwoGrid {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let magnitude = (x.to_bits() & !SIGN).min(self.largest);
        let small = magnitude < self.smallest;
        let kept = magnitude & !((1 << FRACTION) - 1);
        let (lower, upper) = if small {
            (0, self.smallest)
        } else {
            (kept, kept + (1 << FRACTION))
        };
        // How far from lower to upper, in 2^-32.
        let fraction = if small {
            self.part_of_smallest(magnitude)
        } else {
            magnitude << (32 - FRACTION)
        };
        // Codes count up from 1 at the smallest power.
        let odd = !small && ((kept - self.smallest) >> FRACTION) & 1 == 0;
        let negative = x.to_bits() & SIGN != 0;
        let inexact = magnitude != lower;
        let away = rounding.away_from_zero_u32(negative, odd, fraction, inexact, random);
        let value = if away { upper } else { lower };
        let signed = value | (x.to_bits() & SIGN);
        let number = f32::from_bits(if value == 0 { 0 } else { signed });
        if x.is_nan() { x } else { number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(format: PowerOfTwo, x: f32) -> f32 {
        format.grid().round(x, Rounding::NearestEven, 0)
    }

    /// Three bits: 0, 1/4, 1/2 and 1 are the codes 0 to 3.
    #[test]
    fn three_bits_by_hand() {
        let format = PowerOfTwo::new(3).unwrap();
        assert_eq!(format.values(), [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]);
        for (x, expected) in [
            (0.125, 0.0),
            (0.126, 0.25),
            (0.375, 0.5),
            (0.374, 0.25),
            (0.75, 0.5),
            (-0.76, -1.0),
            (3.0, 1.0),
            (f32::NEG_INFINITY, -1.0),
            (-1e-45, 0.0),
        ] {
            assert_eq!(nearest(format, x).to_bits(), f32::to_bits(expected), "{x}");
        }
        assert!(nearest(format, f32::NAN).is_nan());
        let codes: Vec<u32> = format
            .values()
            .iter()
            .map(|&x| format.encode(x, Rounding::Up, 0))
            .collect();
        assert_eq!(codes, [7, 6, 5, 0, 1, 2, 3]);
    }

    #[test]
    fn modes_by_hand() {
        let format = PowerOfTwo::new(3).unwrap();
        let modes = &Rounding::DETERMINISTIC[1..];
        for (x, expected) in [
            (0.75, [1.0, 1.0, 0.5, 0.5, 1.0, 1.0]),
            (-0.75, [-1.0, -0.5, -0.5, -1.0, -0.5, -1.0]),
            (0.3, [0.25, 0.25, 0.25, 0.25, 0.5, 0.25]),
            (-0.01, [0.0, 0.0, 0.0, -0.25, 0.0, -0.25]),
            (1e-45, [0.0, 0.0, 0.0, 0.0, 0.25, 0.25]),
            (0.5, [0.5; 6]),
        ] {
            for (&mode, expected) in modes.iter().zip(expected) {
                assert_eq!(format.grid().round(x, mode, 0), expected, "{mode:?} {x}");
            }
        }
    }

    /// With 2 random bits, 0.0625 is one quarter of 1/4, and 0.875 three quarters of the way from
    /// 1/2 to 1.
    #[test]
    fn stochastic_by_hand() {
        let format = PowerOfTwo::new(3).unwrap();
        let rounding = Rounding::Stochastic {
            seed: 0,
            stream: 0,
            bits: 2,
        };
        for (x, upper, expected) in [(0.0625, 0.25, 1), (-0.875, -1.0, 3), (0.5, 1.0, 0)] {
            let up = (0..4u32).filter(|r| format.grid().round(x, rounding, r << 30) == upper);
            assert_eq!(up.count(), expected, "{x}");
        }
    }

    #[test]
    fn limits() {
        let widest = PowerOfTwo::new(8).unwrap();
        assert_eq!(widest.min_exponent(), -126);
        assert!(widest.with_max_exponent(-1).is_err());
        let shifted = widest.with_max_exponent(127).unwrap();
        assert_eq!(nearest(shifted, f32::MAX), 2f32.powi(127));
        assert_eq!(
            shifted.decode(shifted.encode(-3.0, Rounding::Down, 0)),
            -4.0
        );
        assert!(PowerOfTwo::new(1).is_err() && PowerOfTwo::new(9).is_err());
    }
}
