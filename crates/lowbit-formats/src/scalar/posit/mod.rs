//! Posits: tapered floating-point numbers with a run-length coded exponent.

use std::cmp::Ordering;
use std::fmt;

use half::bf16;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields, regime};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Grid, Pass, ScalarFormat, Wide, wide_power_of_two};

mod activation;
mod scale;
mod scaled;
mod word;

pub use activation::{PositActivation, PositFunction};
use scale::Scale;
use scaled::ScaledPosit;

const SIGN: u32 = 0x8000_0000;
const INFINITY: u32 = 0x7f80_0000;
/// Number of fraction bits of an `f32`.
const FRACTION: u32 = 23;

/// A posit of `bits` bits with up to `exponent_bits` exponent bits, times a scale.
///
/// The code is a sign bit, a regime (a run of `k` equal bits and the opposite bit that ends it),
/// up to `exponent_bits` (es) exponent bits `e`, and a fraction `f` in `[0, 1)`; bits that do not
/// fit are zeros. With `r = k - 1` for a run of ones and `r = -k` for a run of zeros, a positive
/// code has the value
///
/// ```text
/// scale * 2^(r * 2^es + e) * (1 + f)
/// ```
///
/// and a negative number has the two's complement of its magnitude's code. `0...0` is zero and
/// `10...0` is NaR, "not a real". There is one zero and no infinity. (Standard for Posit
/// Arithmetic, 2022, section 3, for `exponent_bits` = 2; the same construction with other exponent
/// widths is that of Gustafson and Yonemoto, "Beating Floating Point at its Own Game", 2017.)
///
/// # Rounding
///
/// - `NearestEven` is the standard's rounding (section 4.1): the number's bit string of unlimited
///   length is cut after `bits` bits, to the nearer code, and on a tie to the even code. Where
///   exponent bits are cut this is nearest on the logarithm's scale, not on the value's. Nothing
///   but zero becomes zero, and nothing becomes NaR: numbers beyond the largest or smallest
///   magnitude go to that magnitude.
/// - `NearestAway` and `NearestUp` are the same, with ties away from zero, and up.
/// - `TowardZero`, `Down` and `Up` go to the neighbour on that side, and `ToOdd` to the neighbour
///   with an odd code; zero is the lower neighbour of the smallest magnitude. Beyond the largest
///   magnitude there is no neighbour but that magnitude.
/// - `Stochastic` goes to one of the two neighbouring values, with probability proportional to the
///   real distance from the other, so it is unbiased also where the spacing of the codes is
///   logarithmic; zero is a neighbour here too. Beyond the largest magnitude it saturates.
///
/// # Scales
///
/// A scale is 1, a power of two, or any other positive number from `2^-64` to below `2^64`, and in
/// place of a number it may be the exact reciprocal of one. Where it is no power of two (up to 24
/// bits):
///
/// - a value is `scale * posit`, the exact product (or quotient) rounded once to `f32`, to nearest;
/// - the nearest modes take the code of `x / scale`, the exact quotient (or product), cut once: they
///   go over to the next value at the scale times the posit of one bit more;
/// - the other modes look at the values, as they are rounded: a value stays, `TowardZero`, `Down`,
///   `Up` and `ToOdd` take a neighbouring value, and the probability of `Stochastic` is that of its
///   distance from the two.
///
/// QPyTorch's `scale` `s` is `scale=1/s` here. It rounds `x * s` to `f32` before the posit's
/// rounding, and `posit / s` after it; here the first of these is exact, so that results differ
/// only for numbers whose product lies within half a last place of `f32` of a boundary.
///
/// # Special inputs
///
/// NaN and both infinities become NaR, which is NaN as an `f32`. -0.0 becomes 0.0. Subnormals are
/// numbers like any other.
///
/// # Results as `f32`
///
/// Every result of rounding an `f32` is an `f32`: where posits are spaced more finely than `f32`s
/// the input is itself a posit, and where they are spaced more coarsely they are `f32`s. The one
/// exception is a format whose posits reach beyond `f32` (es = 4 from 10 bits on, es = 3 from 18
/// bits on, or a large scale): if an input next to `f32::MAX` rounds to a posit of `2^128` or
/// more, [`round`](Self::round) gives the largest posit that an `f32` can hold, so that it never
/// makes an infinity and is idempotent; and where posits reach below all `f32`s, to nearest an
/// input becomes at least the smallest posit that an `f32` can hold, not zero. [`encode`](Self::encode) gives the exact code, and
/// [`decode`](Self::decode) its exact value as an `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Posit {
    bits: u8,
    exponent_bits: u8,
    scale: Scale,
}

impl Posit {
    /// The posit of `bits` bits (2 to 32) with `exponent_bits` exponent bits (0 to 4).
    ///
    /// The Posit Standard's formats are those with `exponent_bits` = 2.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if one of them is outside its range.
    pub fn new(bits: u8, exponent_bits: u8) -> Result<Self, FormatError> {
        check_range("posit", "bits", bits, 2..=32)?;
        check_range("posit", "exponent_bits", exponent_bits, 0..=4)?;
        Ok(Self {
            bits,
            exponent_bits,
            scale: Scale::ONE,
        })
    }

    /// The same format with every value multiplied by `2^scale_log2` (-64 to 63).
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if `scale_log2` is outside its range.
    pub fn with_scale_log2(self, scale_log2: i8) -> Result<Self, FormatError> {
        self.with(Scale::power_of_two(scale_log2)?)
    }

    /// The same format with every value multiplied by `scale` (from `2^-64` to below `2^64`).
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if `scale` is outside its range, or no power of two and the format
    /// has more than 24 bits.
    pub fn with_scale(self, scale: f32) -> Result<Self, FormatError> {
        self.with(Scale::factor(scale)?)
    }

    /// The same format with every value divided by `divisor` (from `2^-63` to below `2^64`), which
    /// is the `scale` of QPyTorch.
    ///
    /// # Errors
    ///
    /// As [`with_scale`](Self::with_scale).
    pub fn with_divisor(self, divisor: f32) -> Result<Self, FormatError> {
        self.with(Scale::divisor(divisor)?)
    }

    fn with(self, scale: Scale) -> Result<Self, FormatError> {
        if !scale.is_power_of_two() && self.bits > scaled::MAX_BITS {
            let (times, over) = scale.quotient();
            let expected = format!("a power of two for more than {} bits", scaled::MAX_BITS);
            return Err(FormatError::parameter(
                "posit",
                "scale",
                times / over,
                expected,
            ));
        }
        Ok(Self { scale, ..self })
    }

    /// The format with a scale of 1.
    pub(crate) fn unscaled(self) -> Self {
        Self {
            scale: Scale::ONE,
            ..self
        }
    }

    /// Number of exponent bits (es).
    pub const fn exponent_bits(&self) -> u32 {
        self.exponent_bits as u32
    }

    /// The factor on every value, a reciprocal rounded to f64.
    pub fn scale(&self) -> f64 {
        let (times, over) = self.scale.quotient();
        times / over
    }

    /// Logarithm to base 2 of the [`scale`](Self::scale), rounded down.
    pub const fn scale_log2(&self) -> i32 {
        self.scale.log2()
    }

    /// The largest value: `scale * 2^(2^es * (bits - 2))`.
    pub fn largest(&self) -> f64 {
        self.scale() * wide_power_of_two(self.max_exponent())
    }

    /// The smallest value above zero: `scale * 2^(-2^es * (bits - 2))`.
    pub fn smallest(&self) -> f64 {
        self.scale() * wide_power_of_two(-self.max_exponent())
    }

    /// The distance from `scale` (the code `010...0`) to the next larger value, over `scale`.
    pub fn epsilon(&self) -> f64 {
        if self.bits == 2 {
            // There is no larger value; the factor to a next one would be unlimited.
            return f64::INFINITY;
        }
        let one = 1u32 << (self.width() - 2);
        self.unscaled().decode(one + 1) - 1.0
    }

    /// The code of NaR: a one and zeros.
    pub const fn nar(&self) -> u32 {
        1 << (self.bits as u32 - 1)
    }

    /// `x` rounded to a value of the format. See the [type](Self) for the rules.
    #[inline(always)]
    pub fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        if !self.scale.is_power_of_two() {
            ScaledPosit::new(*self).round(x, rounding, random)
        } else if self.fits_f32() {
            self.round_within::<false>(x, rounding, random)
        } else {
            self.round_within::<true>(x, rounding, random)
        }
    }

    /// `x` rounded to a value of the format, in and out as bfloat16 (the path that QPyTorch calls
    /// `Positbf`). No second rounding happens: a result is either the input or coarser than it. But
    /// with a scale that is no power of two, the `f32` is rounded to bfloat16, to nearest.
    #[inline(always)]
    pub fn round_bf16(&self, x: bf16, rounding: Rounding, random: u32) -> bf16 {
        bf16::from_f32(self.round(x.to_f32(), rounding, random))
    }

    /// The code of `x` rounded, in the lowest `bits` bits.
    #[inline]
    pub fn encode(&self, x: f32, rounding: Rounding, random: u32) -> u32 {
        let magnitude = x.to_bits() & !SIGN;
        if magnitude == 0 {
            return 0;
        }
        if magnitude >= INFINITY {
            return self.nar();
        }
        let word = if !self.scale.is_power_of_two() {
            ScaledPosit::new(*self).word(x, rounding, random)
        } else if self.fits_f32() {
            self.rounded_word::<false>(x, rounding, random)
        } else {
            self.held_word::<true>(x, rounding, random)
        };
        let code = self.word_code(word);
        let signed = if x < 0.0 { code.wrapping_neg() } else { code };
        signed & (u32::MAX >> (32 - self.width()))
    }

    /// The exact value of a code, NaN for NaR; with the reciprocal of a number as the scale, the
    /// quotient rounded to f64. Bits above the lowest `bits` are ignored.
    pub fn decode(&self, code: u32) -> f64 {
        // The code moved to the top of the word, so that its sign is the word's sign.
        let top = code << (32 - self.width());
        if top == 0 {
            return 0.0;
        }
        if top == SIGN {
            return f64::NAN;
        }
        let (sign, body) = match top & SIGN {
            0 => (1.0, top << 1),
            _ => (-1.0, top.wrapping_neg() << 1),
        };
        let ones = body & SIGN != 0;
        let run = if ones {
            body.leading_ones()
        } else {
            body.leading_zeros()
        };
        let regime = if ones { run as i32 - 1 } else { -(run as i32) };
        // Zeros come in where the code has no more bits, also when the run is the whole code.
        let tail = (u64::from(body) << (run + 1)) as u32;
        let es = self.exponent_bits();
        let exponent = (regime << es) + (u64::from(tail) >> (32 - es)) as i32;
        let fraction = f64::from(tail << es) / 4_294_967_296.0;
        let (times, over) = self.scale.quotient();
        sign * (1.0 + fraction) * wide_power_of_two(exponent) * times / over
    }

    /// The value of a code as an `f32`: rounded to nearest where it has more than 24 significant
    /// bits, and never further out than the largest posit that an `f32` can hold.
    pub fn decode_f32(&self, code: u32) -> f32 {
        let value = self.decode(code);
        let limit = self.max_f32();
        if value.is_nan() {
            f32::NAN
        } else {
            (value as f32).clamp(-limit, limit)
        }
    }

    /// The largest value of the format that is an `f32`.
    pub fn max_f32(&self) -> f32 {
        self.round(f32::MAX, Rounding::TowardZero, 0)
    }

    /// All values in ascending order, without NaR: `2^bits - 1` of them.
    ///
    /// # Errors
    ///
    /// [`FormatError::Unsupported`] for more than 16 bits.
    pub fn values(&self) -> Result<Vec<f64>, FormatError> {
        if self.bits > 16 {
            return Err(FormatError::Unsupported {
                format: self.to_string(),
                operation: "a list of its values, which takes at most 16 bits".to_owned(),
            });
        }
        // Codes order like their values when read as two's complement integers.
        let half = 1i32 << (self.bits - 1);
        Ok((1 - half..half)
            .map(|code| self.decode(code as u32))
            .collect())
    }
}

impl FormatText for Posit {
    const EXAMPLES: &'static [&'static str] = &[
        "posit(8,0)",
        "posit(8,2)",
        "posit(16,1)",
        "posit(16,2,scale_log2=-3)",
        "posit(8,1,scale=0.3)",
        "posit(8,1,scale=1/3)",
        "posit(32,2)",
    ];

    fn has_name(name: &str) -> bool {
        name == "posit"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        call.exclusive(&["scale", "scale_log2"])?;
        let (numbers, options) = call.split(2)?;
        let format = Self::new(
            numbers[0].number("bits")?,
            numbers[1].number("exponent_bits")?,
        )?;
        options
            .iter()
            .try_fold(format, |format, option| match option.key() {
                "scale_log2" => Ok(format.with_scale_log2(option.number("scale_log2")?)?),
                "scale" => Ok(format.with(Scale::from_option(option)?)?),
                other => {
                    let known = "scale_log2=exponent, scale=number, scale=1/number";
                    Err(Reason::option(other, known))
                }
            })
    }
}

impl Posit {
    const fn width(&self) -> u32 {
        self.bits as u32
    }

    /// The exponent of the largest magnitude, without the scale.
    const fn max_exponent(&self) -> i32 {
        (self.bits as i32 - 2) << self.exponent_bits
    }

    /// Whether all values are normal `f32`s, so that a word is an `f32`'s bits but for an offset; for
    /// scales that are powers of two.
    #[inline(always)]
    const fn fits_f32(&self) -> bool {
        let (max, scale) = (self.max_exponent(), self.scale.word_exponent());
        scale - max >= -126 && scale + max <= 127
    }
}

impl fmt::Display for Posit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bits, exponent_bits) = (self.bits, self.exponent_bits);
        write!(f, "posit({bits},{exponent_bits}{})", self.scale)
    }
}

impl Grid for Posit {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        Self::round(self, x, rounding, random)
    }
}

/// A posit whose values are normal `f32`s, which saves a kernel what the others need.
#[derive(Debug, Clone, Copy)]
struct NormalPosit(Posit);

impl Grid for NormalPosit {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        self.0.round_within::<false>(x, rounding, random)
    }
}

/// A posit with values beyond `f32`.
#[derive(Debug, Clone, Copy)]
struct WidePosit(Posit);

impl Grid for WidePosit {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        self.0.round_within::<true>(x, rounding, random)
    }
}

impl ScalarFormat for Posit {
    type Grid<'a> = Self;

    fn grid(&self) -> Self {
        *self
    }

    fn apply<P: Pass>(&self, pass: P) -> P::Output {
        if !self.scale.is_power_of_two() {
            pass.run(ScaledPosit::new(*self))
        } else if self.fits_f32() {
            pass.run(NormalPosit(*self))
        } else {
            pass.run(WidePosit(*self))
        }
    }

    fn encode(&self, value: f32) -> u32 {
        Self::encode(self, value, Rounding::NearestEven, 0)
    }

    fn decode(&self, code: u32) -> f32 {
        self.decode_f32(code)
    }

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        let widths = [
            ("sign", 1),
            ("regime", regime(&digits[1..])),
            ("exponent", self.exponent_bits() as usize),
        ];
        fields(digits, &widths, "fraction")
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        None
    }

    fn facts(&self) -> Facts {
        let extent = Extent {
            // NaR is no value.
            values: (1 << self.bits) - 1,
            nan: true,
            ..Extent::of_steps(-self.max_f32(), self.max_f32())
        };
        Facts::new(self, extent)
    }

    fn bits(&self) -> u32 {
        self.bits.into()
    }

    fn min(&self) -> f32 {
        -self.max_f32()
    }

    fn max(&self) -> f32 {
        self.max_f32()
    }

    /// Codes part at the code of one bit more between them. Where the posits are finer than f32,
    /// those that are f32 part in the middle.
    fn compare_boundary(&self, x: Wide, (lower, upper): (f64, f64), _: Rounding) -> Ordering {
        let toward = lower.abs().min(upper.abs());
        if toward == 0.0 {
            // Nothing but zero becomes zero.
            return if upper > 0.0 {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        if !self.scale.is_power_of_two() {
            return scaled::compare(*self, x, (lower, upper));
        }
        let Some(boundary) = self.boundary_above(toward as f32) else {
            return x.compare_middle(lower, upper);
        };
        x.compare(if upper > 0.0 { boundary } else { -boundary })
    }
}
