//! Which integers a tensor holds, and what they stand for.

use lowbit_formats::IntegerGrid;
use serde::{Deserialize, Serialize};

/// The integers of a tensor, of `bits` bits with or without sign, and the real numbers that they
/// stand for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub enum Numbers {
    /// `k` stands for `k 2^exponent`.
    PowerOfTwo(IntegerGrid),
    /// `k` stands for `scale (k - zero_point)`. Made by [`Numbers::affine`], which checks it.
    Affine(Affine),
}

/// Integers of a width with a scale and a zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Width and sign; its exponent is 0.
    grid: IntegerGrid,
    /// Finite and above zero.
    scale: f64,
    /// Among the integers.
    zero_point: i64,
}

/// How numbers are written: an exponent, or a scale and a zero point.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    bits: u32,
    signed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    exponent: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zero_point: Option<i64>,
}

impl TryFrom<Text> for Numbers {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        let (bits, signed) = (text.bits, text.signed);
        match (text.exponent, text.scale) {
            (Some(exponent), None) if text.zero_point.is_none() => {
                Self::power_of_two(bits, signed, exponent)
            }
            (None, Some(scale)) => {
                Self::affine(bits, signed, scale, text.zero_point.unwrap_or_default())
            }
            _ => Err("numbers have an exponent, or a scale and a zero_point".into()),
        }
    }
}

impl From<Numbers> for Text {
    fn from(numbers: Numbers) -> Self {
        let mut text = Self {
            bits: numbers.bits(),
            signed: numbers.signed(),
            exponent: None,
            scale: None,
            zero_point: None,
        };
        match numbers {
            Numbers::PowerOfTwo(grid) => text.exponent = Some(grid.exponent()),
            Numbers::Affine(affine) => {
                (text.scale, text.zero_point) = (Some(affine.scale), Some(affine.zero_point));
            }
        }
        text
    }
}

impl Numbers {
    /// Integers times `2^exponent`.
    ///
    /// # Errors
    ///
    /// If `bits` is not from 1 to 64, or the exponent not from -126 to 126.
    pub fn power_of_two(bits: u32, signed: bool, exponent: i32) -> Result<Self, String> {
        IntegerGrid::new(bits, signed, exponent)
            .map(Self::PowerOfTwo)
            .map_err(|error| error.to_string())
    }

    /// Integers times a scale, counted from a zero point.
    ///
    /// # Errors
    ///
    /// If `bits` is not from 1 to 64, the scale not finite and above zero, or the zero point not
    /// among the integers.
    pub fn affine(bits: u32, signed: bool, scale: f64, zero_point: i64) -> Result<Self, String> {
        let grid = IntegerGrid::new(bits, signed, 0).map_err(|error| error.to_string())?;
        if !(scale.is_finite() && scale > 0.0) {
            return Err(format!(
                "scale is {scale}, expected a finite number above 0"
            ));
        }
        let numbers = Self::Affine(Affine {
            grid,
            scale,
            zero_point,
        });
        if !(numbers.least()..=numbers.greatest()).contains(&zero_point) {
            return Err(format!(
                "zero_point is {zero_point}, expected {} to {}",
                numbers.least(),
                numbers.greatest()
            ));
        }
        Ok(numbers)
    }

    /// Width and sign.
    fn grid(&self) -> &IntegerGrid {
        match self {
            Self::PowerOfTwo(grid) | Self::Affine(Affine { grid, .. }) => grid,
        }
    }

    /// Bits of an integer, sign included.
    pub fn bits(&self) -> u32 {
        self.grid().bits()
    }

    /// Whether there are negative integers.
    pub fn signed(&self) -> bool {
        self.grid().signed()
    }

    /// The least integer.
    pub fn least(&self) -> i64 {
        i64::try_from(self.grid().range().min).unwrap_or(i64::MIN)
    }

    /// The greatest integer; of 64 bits without sign, the greatest `i64`.
    pub fn greatest(&self) -> i64 {
        i64::try_from(self.grid().range().max).unwrap_or(i64::MAX)
    }

    /// The integer that stands for zero.
    pub fn zero_point(&self) -> i64 {
        match self {
            Self::PowerOfTwo(_) => 0,
            Self::Affine(affine) => affine.zero_point,
        }
    }

    /// The exponent, where the scale is written as a power of two.
    pub fn exponent(&self) -> Option<i32> {
        match self {
            Self::PowerOfTwo(grid) => Some(grid.exponent()),
            Self::Affine(_) => None,
        }
    }

    /// The distance of neighbours.
    pub fn scale(&self) -> f64 {
        match self {
            Self::PowerOfTwo(grid) => f64::from(grid.exponent()).exp2(),
            Self::Affine(affine) => affine.scale,
        }
    }

    /// The real number that `k` stands for.
    pub fn real(&self, k: i64) -> f64 {
        self.scale() * (i128::from(k) - i128::from(self.zero_point())) as f64
    }

    /// What is between the integers of products, before they have a width: the product of both
    /// scales.
    pub(crate) fn times(&self, other: &Self) -> Step {
        match (self.exponent(), other.exponent()) {
            (Some(a), Some(b)) => Step::PowerOfTwo(a + b),
            _ => Step::Any(self.scale() * other.scale()),
        }
    }

    /// The step without the width.
    pub(crate) fn step(&self) -> Step {
        match self {
            Self::PowerOfTwo(grid) => Step::PowerOfTwo(grid.exponent()),
            Self::Affine(affine) => Step::Any(affine.scale),
        }
    }
}

/// The distance of neighbours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    PowerOfTwo(i32),
    Any(f64),
}

impl Step {
    /// This step, divided by a whole number.
    pub(crate) fn divided_by(self, divisor: u64) -> Self {
        match self {
            Self::PowerOfTwo(exponent) if divisor.is_power_of_two() => {
                Self::PowerOfTwo(exponent - divisor.trailing_zeros() as i32)
            }
            Self::PowerOfTwo(exponent) => Self::Any(f64::from(exponent).exp2() / divisor as f64),
            Self::Any(scale) => Self::Any(scale / divisor as f64),
        }
    }

    /// Signed numbers with this step, of so many bits, whose zero is 0.
    pub(crate) fn numbers(self, bits: u32) -> Result<Numbers, String> {
        match self {
            Self::PowerOfTwo(exponent) => Numbers::power_of_two(bits, true, exponent),
            Self::Any(scale) => Numbers::affine(bits, true, scale, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_hand() {
        let numbers = Numbers::power_of_two(8, true, -7).unwrap();
        assert_eq!((numbers.least(), numbers.greatest()), (-128, 127));
        assert_eq!(numbers.real(-128), -1.0);
        let numbers = Numbers::affine(4, false, 0.5, 3).unwrap();
        assert_eq!((numbers.least(), numbers.greatest()), (0, 15));
        assert_eq!(numbers.real(1), -1.0);
        let widest = Numbers::power_of_two(64, true, 0).unwrap();
        assert_eq!((widest.least(), widest.greatest()), (i64::MIN, i64::MAX));
        // 2^63 - 1 + 2^63 is 2^64 - 1, the nearest f64 to which is 2^64.
        let far = Numbers::affine(64, true, 1.0, i64::MIN).unwrap();
        assert_eq!(far.real(i64::MAX), 64f64.exp2());
    }

    #[test]
    fn what_is_no_scale_is_refused() {
        for scale in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            assert!(Numbers::affine(8, true, scale, 0).is_err());
        }
        assert!(Numbers::affine(8, false, 1.0, -1).is_err());
        assert!(Numbers::power_of_two(0, true, 0).is_err());
        assert!(Numbers::power_of_two(8, true, 127).is_err());
    }

    #[test]
    fn text_has_an_exponent_or_a_scale() {
        let text = r#"{"bits":8,"signed":true,"exponent":-7}"#;
        let numbers: Numbers = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&numbers).unwrap(), text);
        for text in [
            r#"{"bits":8,"signed":true}"#,
            r#"{"bits":8,"signed":true,"exponent":1,"scale":2.0}"#,
            r#"{"bits":8,"signed":true,"scale":0.0}"#,
            r#"{"bits":8,"signed":true,"exponent":1,"more":0}"#,
        ] {
            assert!(serde_json::from_str::<Numbers>(text).is_err(), "{text}");
        }
    }
}
