//! Fixed point: a whole number of steps of one power of two.

use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, point};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::wide::{self, Wide};
use crate::scalar::{Grid, Pass, ScalarFormat, power_of_two};

/// What happens to a number beyond the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overflow {
    /// It becomes the nearer limit.
    #[default]
    Clamp,
    /// Its number of steps is taken modulo `2^word`, as two's complement arithmetic does.
    Wrap,
    /// It stays: only the step is simulated (QPyTorch's `clamp=False`).
    Unbounded,
}

/// Fixed point with `word` bits in all, `fraction` of them after the point.
///
/// The values are `i * 2^-fraction` for whole numbers `i` from `-2^(word-1)` to `2^(word-1) - 1`
/// (unsigned: from 0 to `2^word - 1`), as in QPyTorch's `fixed_point_quantize`; the number of
/// steps is rounded first and clamped after. Minus zero becomes zero, infinities the limits, and
/// NaN stays NaN, which no code holds. Without clamping infinities stay; wrapped, they become NaN.
/// Limits that f32 cannot hold (words above 24 bits) are cut to the f32 below.
///
/// Text: `fixed(word,fraction)` or `ufixed(word,fraction)`, with `symmetric`, `wrap` or
/// `unbounded` after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedPoint {
    word: u8,
    fraction: i8,
    signed: bool,
    symmetric: bool,
    overflow: Overflow,
}

impl FixedPoint {
    /// Signed fixed point that clamps.
    ///
    /// # Errors
    ///
    /// If `word` is not in 1..=32 or `fraction` not in -96..=126; `fraction` may exceed `word`.
    pub fn new(word: u8, fraction: i8) -> Result<Self, FormatError> {
        check_range("fixed", "word", word, 1..=32)?;
        check_range("fixed", "fraction", fraction, -96..=126)?;
        Ok(Self {
            word,
            fraction,
            signed: true,
            symmetric: false,
            overflow: Overflow::Clamp,
        })
    }

    /// The same without negative numbers; not symmetric.
    pub fn unsigned(self) -> Self {
        Self {
            signed: false,
            symmetric: false,
            ..self
        }
    }

    /// The same without its lowest value, so that the limits are `+-(2^(word-1) - 1)` steps.
    ///
    /// # Errors
    ///
    /// If the format is unsigned, wraps, or has fewer than two bits.
    pub fn symmetric(self) -> Result<Self, FormatError> {
        if !self.signed || self.overflow == Overflow::Wrap || self.word < 2 {
            return Err(FormatError::parameter(
                "fixed",
                "symmetric",
                "true",
                "false, unless signed, not wrapping, and of two bits or more",
            ));
        }
        Ok(Self {
            symmetric: true,
            ..self
        })
    }

    /// The same with another treatment of numbers beyond the limits.
    ///
    /// # Errors
    ///
    /// If [`Overflow::Wrap`] is asked of a symmetric format or of more than 24 bits.
    pub fn with_overflow(self, overflow: Overflow) -> Result<Self, FormatError> {
        if overflow == Overflow::Wrap {
            check_range("fixed", "word", self.word, 1..=24)?;
            if self.symmetric {
                return Err(FormatError::parameter(
                    "fixed",
                    "overflow",
                    "wrap",
                    "clamp or unbounded, since the format is symmetric",
                ));
            }
        }
        Ok(Self { overflow, ..self })
    }

    /// The same with every value multiplied by `2^log2`; `None` where the fraction would be out of
    /// range.
    pub fn times_power_of_two(self, log2: i32) -> Option<Self> {
        let fraction = i32::from(self.fraction).checked_sub(log2)?;
        let fraction = i8::try_from(fraction).ok()?;
        Self::new(self.word, fraction).ok()?;
        Some(Self { fraction, ..self })
    }

    /// Bits in all.
    pub fn word(&self) -> u8 {
        self.word
    }

    /// Bits after the point.
    pub fn fraction(&self) -> i8 {
        self.fraction
    }

    /// Whether there are negative values.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Whether the lowest value is left out.
    pub fn is_symmetric(&self) -> bool {
        self.symmetric
    }

    /// The treatment of numbers beyond the limits.
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// The distance between neighbours, `2^-fraction`.
    pub fn step(&self) -> f32 {
        power_of_two(-i32::from(self.fraction))
    }

    /// The smallest and the largest number of steps.
    pub fn steps(&self) -> (i64, i64) {
        step_limits(self.word, self.signed, self.symmetric)
    }

    /// The grid of a format whose numbers do not wrap.
    pub(crate) fn clamped(&self) -> ClampedGrid {
        self.grid().clamped
    }
}

impl FormatText for FixedPoint {
    const EXAMPLES: &'static [&'static str] = &[
        "fixed(8,6)",
        "fixed(8,6,symmetric)",
        "fixed(8,6,wrap)",
        "fixed(8,6,unbounded)",
        "ufixed(8,8)",
    ];

    fn has_name(name: &str) -> bool {
        matches!(name, "fixed" | "ufixed")
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        call.exclusive(&["wrap", "unbounded"])?;
        let (words, options) = call.split(2)?;
        let mut format = Self::new(words[0].number("word")?, words[1].number("fraction")?)?;
        if call.name() == "ufixed" {
            format = format.unsigned();
        }
        for option in options {
            format = match option.flag()? {
                "symmetric" => format.symmetric()?,
                "wrap" => format.with_overflow(Overflow::Wrap)?,
                "unbounded" => format.with_overflow(Overflow::Unbounded)?,
                other => return Err(Reason::option(other, "symmetric, wrap, unbounded")),
            };
        }
        Ok(format)
    }
}

impl fmt::Display for FixedPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.signed { "fixed" } else { "ufixed" };
        write!(f, "{name}({},{}", self.word, self.fraction)?;
        if self.symmetric {
            f.write_str(",symmetric")?;
        }
        f.write_str(match self.overflow {
            Overflow::Clamp => ")",
            Overflow::Wrap => ",wrap)",
            Overflow::Unbounded => ",unbounded)",
        })
    }
}

impl ScalarFormat for FixedPoint {
    type Grid<'a> = FixedGrid;

    fn grid(&self) -> FixedGrid {
        FixedGrid {
            clamped: ClampedGrid {
                scale: power_of_two(self.fraction.into()),
                step: self.step(),
                min: self.min(),
                max: self.max(),
            },
            modulus: match self.overflow {
                Overflow::Wrap => Some(power_of_two(self.word.into())),
                _ => None,
            },
            signed: self.signed,
        }
    }

    fn apply<P: Pass>(&self, pass: P) -> P::Output {
        let grid = self.grid();
        match grid.modulus {
            Some(_) => pass.run(grid),
            None => pass.run(grid.clamped),
        }
    }

    fn bits(&self) -> u32 {
        self.word.into()
    }

    fn encode(&self, value: f32) -> u32 {
        encode_steps(value / self.step(), self.steps(), self.word)
    }

    fn decode(&self, code: u32) -> f32 {
        let (min, max) = self.steps();
        // A symmetric format leaves one code without a value.
        decode_steps(code, self.word, self.signed).clamp(min, max) as f32 * self.step()
    }

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        point(digits, self.fraction().into())
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        let (min, max) = self.steps();
        Some(IntegerRange {
            exponent: -i32::from(self.fraction),
            min: min.into(),
            max: max.into(),
        })
    }

    fn facts(&self) -> Facts {
        let (min, max) = self.steps();
        let extent = Extent::of_steps(min as f32 * self.step(), round_down(max) * self.step());
        let values = (max - min + 1) as u64;
        Facts::new(self, Extent { values, ..extent })
    }

    fn min(&self) -> f32 {
        match self.overflow {
            Overflow::Unbounded => f32::NEG_INFINITY,
            _ => self.steps().0 as f32 * self.step(),
        }
    }

    fn max(&self) -> f32 {
        match self.overflow {
            Overflow::Unbounded => f32::INFINITY,
            _ => round_down(self.steps().1) * self.step(),
        }
    }

    fn round_wide(&self, x: Wide, rounding: Rounding, random: u32) -> f32 {
        if self.overflow != Overflow::Wrap || !x.nearest().is_finite() {
            return wide::round(self, x, rounding, random);
        }
        // The remainder rounds as the number does, and is at most 2^24 steps.
        let unbounded = Self {
            overflow: Overflow::Unbounded,
            ..*self
        };
        let period = f64::from(i32::from(self.word) - i32::from(self.fraction)).exp2();
        let remainder = wide::round(&unbounded, x.remainder(period), rounding, random);
        self.grid().round(remainder, Rounding::TowardZero, 0)
    }

    fn past_ends(&self) -> (f64, f64) {
        match self.overflow {
            // Beyond f32 numbers become infinite, as its own do.
            Overflow::Unbounded => (-128f64.exp2(), 128f64.exp2()),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        }
    }
}

/// The constants of rounding to steps between two limits.
#[derive(Debug, Clone, Copy)]
pub struct ClampedGrid {
    scale: f32,
    step: f32,
    min: f32,
    max: f32,
}

impl ClampedGrid {
    /// The smallest and the largest number that rounding gives.
    pub(crate) fn limits(&self) -> (f32, f32) {
        (self.min, self.max)
    }

    /// Whole numbers from `min` to `max`.
    pub(crate) fn integers(min: i64, max: i64) -> Self {
        Self {
            scale: 1.0,
            step: 1.0,
            min: min as f32,
            max: round_down(max),
        }
    }

    /// `x` in steps, not yet whole.
    #[inline(always)]
    fn scaled(&self, x: f32, rounding: Rounding) -> f32 {
        let scaled = x * self.scale;
        match rounding {
            // A number that scaling brought down to zero still lies between two steps.
            Rounding::Down | Rounding::Up | Rounding::ToOdd if scaled == 0.0 => x,
            _ => scaled,
        }
    }
}

impl Grid for ClampedGrid {
    const EVERY_MODE: bool = true;

    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let scaled = self.scaled(x, rounding);
        let steps = rounding.to_integer(scaled, random);
        // From 2^24 on every f32 is a whole number of steps, and scaling may overflow.
        let value = if scaled.abs() < 16_777_216.0 {
            steps * self.step
        } else {
            x
        };
        let value = if value > self.max { self.max } else { value };
        let value = if value < self.min { self.min } else { value };
        // Minus zero becomes zero.
        value + 0.0
    }
}

/// The constants of rounding to a [`FixedPoint`] format.
#[derive(Debug, Clone, Copy)]
pub struct FixedGrid {
    clamped: ClampedGrid,
    /// In steps, where numbers wrap.
    modulus: Option<f32>,
    signed: bool,
}

impl Grid for FixedGrid {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let Some(modulus) = self.modulus else {
            return self.clamped.round(x, rounding, random);
        };
        let scaled = self.clamped.scaled(x, rounding);
        // Scaling overflows only for multiples of the modulus, whose remainder is zero.
        let steps = if scaled.is_finite() {
            rounding.to_integer(scaled, random)
        } else {
            x * 0.0
        };
        wrap(steps, modulus, self.signed) * self.clamped.step + 0.0
    }
}

/// The number congruent to `steps` modulo `modulus`, a power of two up to 2^24, in
/// `-modulus/2..modulus/2`, or in `0..modulus` if unsigned.
#[inline(always)]
fn wrap(steps: f32, modulus: f32, signed: bool) -> f32 {
    let remainder = steps - (steps / modulus).round_ties_even() * modulus;
    if signed && remainder >= 0.5 * modulus {
        remainder - modulus
    } else if !signed && remainder < 0.0 {
        remainder + modulus
    } else {
        remainder
    }
}

/// The smallest and the largest code, as integers, of a word.
pub(crate) fn step_limits(word: u8, signed: bool, symmetric: bool) -> (i64, i64) {
    match (signed, symmetric) {
        (false, _) => (0, (1i64 << word) - 1),
        (true, false) => (-(1i64 << (word - 1)), (1i64 << (word - 1)) - 1),
        (true, true) => (1 - (1i64 << (word - 1)), (1i64 << (word - 1)) - 1),
    }
}

/// A number of steps as a two's complement code of `word` bits; NaN is zero.
pub(crate) fn encode_steps(steps: f32, limits: (i64, i64), word: u8) -> u32 {
    let steps = (steps as i64).clamp(limits.0, limits.1);
    steps as u32 & (u32::MAX >> (32 - word))
}

/// The number of steps of a code.
pub(crate) fn decode_steps(code: u32, word: u8, signed: bool) -> i64 {
    let unused = 32 - u32::from(word);
    if signed {
        i64::from((code << unused).cast_signed() >> unused)
    } else {
        i64::from(code << unused >> unused)
    }
}

/// The largest f32 that is not above `x`.
pub(crate) fn round_down(x: i64) -> f32 {
    let nearest = x as f32;
    if nearest as i64 > x {
        nearest.next_down()
    } else {
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(word: u8, fraction: i8) -> FixedPoint {
        FixedPoint::new(word, fraction).unwrap()
    }

    fn nearest(format: FixedPoint, x: f32) -> f32 {
        format.grid().round(x, Rounding::NearestEven, 0)
    }

    /// Limits from the formulas of QPyTorch's documentation, steps of 1/64 by hand.
    #[test]
    fn fixed_8_6_by_hand() {
        let format = fixed(8, 6);
        assert_eq!((format.min(), format.max()), (-2.0, 2.0 - 1.0 / 64.0));
        // 1.5 and 2.5 steps are ties.
        for (x, steps) in [
            (1.5, 2.0),
            (2.5, 2.0),
            (-1.5, -2.0),
            (0.4, 0.0),
            (63.51, 64.0),
        ] {
            assert_eq!(nearest(format, x / 64.0), steps / 64.0);
        }
        assert_eq!(nearest(format, 9.0), 127.0 / 64.0);
        assert_eq!(nearest(format, f32::NEG_INFINITY), -2.0);
        assert_eq!(nearest(format, -0.0).to_bits(), 0);
        assert!(nearest(format, f32::NAN).is_nan());
        assert_eq!(format.symmetric().unwrap().min(), -127.0 / 64.0);
        assert_eq!(nearest(format.unsigned(), -1.0), 0.0);
        assert_eq!(nearest(format.unsigned(), 9.0), 255.0 / 64.0);
    }

    /// Two's complement, by hand: 130 is -126 modulo 256.
    #[test]
    fn wrapping_is_twos_complement() {
        let format = fixed(8, 0).with_overflow(Overflow::Wrap).unwrap();
        for (x, expected) in [
            (127.0, 127.0),
            (128.0, -128.0),
            (130.0, -126.0),
            (-129.0, 127.0),
            (-128.0, -128.0),
            (1e30, 0.0),
            (16_777_215.0, -1.0),
        ] {
            assert_eq!(nearest(format, x), expected, "{x}");
        }
        assert_eq!(nearest(format.unsigned(), -1.0), 255.0);
        assert_eq!(nearest(format.unsigned(), 256.0), 0.0);
        let fine = fixed(8, 126).with_overflow(Overflow::Wrap).unwrap();
        assert_eq!(nearest(fine, 1e30), 0.0);
        assert!(nearest(fine, f32::INFINITY).is_nan());
    }

    #[test]
    fn unbounded_only_rounds() {
        let format = fixed(8, 6).with_overflow(Overflow::Unbounded).unwrap();
        assert_eq!(nearest(format, 1000.01), 64_001.0 / 64.0);
        assert_eq!(nearest(format, 3e38), 3e38);
        assert_eq!(nearest(format, f32::NEG_INFINITY), f32::NEG_INFINITY);
    }

    #[test]
    fn the_point_may_lie_outside_the_word() {
        // Steps of 1024, up to 127 * 1024.
        let coarse = fixed(8, -10);
        assert_eq!(coarse.max(), 130_048.0);
        assert_eq!(nearest(coarse, 1600.0), 2048.0);
        let up = |x| coarse.grid().round(x, Rounding::Up, 0);
        assert_eq!(up(1e-45), 1024.0);
        assert_eq!(up(0.0), 0.0);
        assert_eq!(up(-1e-45).to_bits(), 0);
        // Steps of 2^-20, up to 127 of them.
        let fine = fixed(8, 20);
        assert_eq!(fine.max(), 127.0 / 1_048_576.0);
    }

    #[test]
    fn wide_words_have_limits_that_f32_holds() {
        assert_eq!(fixed(32, 0).max(), 2_147_483_520.0);
        assert_eq!(fixed(32, 0).min(), -2_147_483_648.0);
    }

    #[test]
    fn bad_parameters_are_errors() {
        assert!(FixedPoint::new(0, 0).is_err());
        assert!(FixedPoint::new(33, 0).is_err());
        assert!(FixedPoint::new(8, 127).is_err());
        assert!(fixed(8, 6).unsigned().symmetric().is_err());
        assert!(fixed(25, 6).with_overflow(Overflow::Wrap).is_err());
    }
}
