//! The factor on every value of a posit.

use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Argument, Reason};
use crate::scalar::wide_power_of_two;

/// What every value is multiplied or divided by. A power of two, which moves exponents only, is
/// always the first of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scale {
    /// Times `2^log2`.
    PowerOfTwo(i8),
    /// Times the number with these bits.
    Factor(u32),
    /// Over the number with these bits.
    Divisor(u32),
}

impl Scale {
    pub(crate) const ONE: Self = Self::PowerOfTwo(0);

    pub(crate) fn power_of_two(log2: i8) -> Result<Self, FormatError> {
        check_range("posit", "scale_log2", log2, -64..=63)?;
        Ok(Self::PowerOfTwo(log2))
    }

    pub(crate) fn factor(factor: f32) -> Result<Self, FormatError> {
        match exponent(factor)? {
            (log2, true) => Self::power_of_two(log2),
            (_, false) => Ok(Self::Factor(factor.to_bits())),
        }
    }

    pub(crate) fn divisor(divisor: f32) -> Result<Self, FormatError> {
        match exponent(divisor)? {
            (log2, true) => Self::power_of_two(-log2),
            (_, false) => Ok(Self::Divisor(divisor.to_bits())),
        }
    }

    /// Reads the value of `scale=`: a number, or `1/number`.
    pub(crate) fn from_option(option: &Argument<'_>) -> Result<Self, Reason> {
        let text = option.value();
        let (number, divides) = match text.split_once('/') {
            Some((one, divisor)) if one.trim() == "1" => (divisor.trim(), true),
            _ => (text, false),
        };
        let number: f32 = number
            .parse()
            .map_err(|_| Reason(format!("scale `{text}` is neither a number nor 1/number")))?;
        Ok(if divides {
            Self::divisor(number)?
        } else {
            Self::factor(number)?
        })
    }

    /// The exponent of a power of two, the only factor that a word knows of; 0 for others.
    pub(crate) const fn word_exponent(self) -> i32 {
        match self {
            Self::PowerOfTwo(log2) => log2 as i32,
            Self::Factor(_) | Self::Divisor(_) => 0,
        }
    }

    /// The logarithm to base 2, rounded down.
    pub(crate) const fn log2(self) -> i32 {
        match self {
            Self::PowerOfTwo(log2) => log2 as i32,
            Self::Factor(bits) => (bits >> 23) as i32 - 127,
            Self::Divisor(bits) => 126 - (bits >> 23) as i32,
        }
    }

    pub(crate) const fn is_power_of_two(self) -> bool {
        matches!(self, Self::PowerOfTwo(_))
    }

    /// The factor as a quotient: what values are multiplied by, and then divided by. One of them
    /// is 1.
    pub(crate) fn quotient(self) -> (f64, f64) {
        match self {
            Self::PowerOfTwo(log2) => (wide_power_of_two(log2.into()), 1.0),
            Self::Factor(bits) => (f32::from_bits(bits).into(), 1.0),
            Self::Divisor(bits) => (1.0, f32::from_bits(bits).into()),
        }
    }
}

/// The exponent of a number within the range of scales, and whether it is a power of two.
fn exponent(scale: f32) -> Result<(i8, bool), FormatError> {
    let exponent = (scale.to_bits() >> 23) as i32 - 127;
    if !(-64..=63).contains(&exponent) {
        let expected = "a positive number from 2^-64 to below 2^64";
        return Err(FormatError::parameter("posit", "scale", scale, expected));
    }
    Ok((exponent as i8, scale.to_bits() << 9 == 0))
}

/// The option of a posit's text, with a comma before it; nothing for a factor of 1.
impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOfTwo(0) => Ok(()),
            Self::PowerOfTwo(log2) => write!(f, ",scale_log2={log2}"),
            Self::Factor(bits) => write!(f, ",scale={}", f32::from_bits(*bits)),
            Self::Divisor(bits) => write!(f, ",scale=1/{}", f32::from_bits(*bits)),
        }
    }
}
