//! Additive powers of two.

use std::cmp::Ordering;
use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::codebook::Codebook;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::levels::LevelGrid;
use crate::scalar::{Pass, ScalarFormat, Wide};

/// Sums of a few powers of two, with a sign, scaled to end at `alpha`.
///
/// With `bits` = b, one bit is the sign, and the others make `n = (b - 1) / 2` terms of two bits
/// each. The magnitudes are
///
/// ```text
/// gamma * (p_0 + ... + p_(n-1)),      p_i from 0, 2^-i, 2^-(i+n), 2^-(i+2n)              (b odd)
/// gamma * (p_0 + ... + p_(n-1) + q),  p_i from 0, 2^-i, 2^-(i+n), 2^-(i+2n+1),
///                                     q from 0, 2^-2n                                   (b even)
/// ```
///
/// with `gamma` such that the largest is `alpha` ("Additive Powers-of-Two Quantization", Li, Dong
/// and Wang, arXiv 1909.13144, section 2.2, equations 4 to 6, with the base bit width k = 2 that
/// the paper uses; the sets are those of the authors' implementation). A code is the sign bit and
/// the index of the magnitude, counted from zero.
///
/// Rounding and special inputs are those of a [`Codebook`] with a sign and a zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AdditivePowerOfTwo {
    bits: u8,
    table: Codebook,
}

impl AdditivePowerOfTwo {
    /// The format of `bits` bits (3 to 9) whose largest magnitude is `alpha`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if `bits` is out of range, or `alpha` is not a positive number
    /// that keeps the values apart.
    pub fn new(bits: u8, alpha: f32) -> Result<Self, FormatError> {
        check_range("apot", "bits", bits, 3..=9)?;
        let table = Codebook::with_sign(&magnitudes(bits.into()))?.scaled(alpha)?;
        Ok(Self { bits, table })
    }

    /// The largest magnitude.
    pub fn alpha(&self) -> f32 {
        self.table.scale()
    }

    /// All values in ascending order.
    pub fn values(&self) -> &[f32] {
        self.table.values()
    }

    /// The code of `x` rounded, in the lowest `bits` bits.
    pub fn encode(&self, x: f32, rounding: Rounding, random: u32) -> u32 {
        self.table.encode(x, rounding, random)
    }

    /// The value of a code; NaN for minus zero's, which no value has.
    pub fn decode(&self, code: u32) -> f32 {
        self.table.decode(code)
    }
}

impl FormatText for AdditivePowerOfTwo {
    const EXAMPLES: &'static [&'static str] = &["apot(5)", "apot(4,alpha=2)"];

    fn has_name(name: &str) -> bool {
        name == "apot"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (numbers, options) = call.split(1)?;
        let mut alpha = 1.0;
        for option in options {
            alpha = match option.key() {
                "alpha" => option.number("alpha")?,
                other => return Err(Reason::option(other, "alpha=number")),
            };
        }
        Ok(Self::new(numbers[0].number("bits")?, alpha)?)
    }
}

/// The magnitudes for `bits` bits with `alpha` = 1, in no order.
fn magnitudes(bits: i32) -> Vec<f32> {
    let n = (bits - 1) / 2;
    let odd_places = (bits - 1) % 2;
    let power = |exponent: i32| 2f64.powi(-exponent);
    let mut terms: Vec<Vec<f64>> = (0..n)
        .map(|i| vec![0.0, power(i), power(i + n), power(i + 2 * n + odd_places)])
        .collect();
    if odd_places == 1 {
        terms.push(vec![0.0, power(2 * n)]);
    }
    let sums = terms.iter().fold(vec![0.0], |sums, term| {
        sums.iter()
            .flat_map(|sum| term.iter().map(move |p| sum + p))
            .collect()
    });
    let largest = sums.iter().copied().fold(0.0, f64::max);
    sums.iter().map(|sum| (sum / largest) as f32).collect()
}

impl fmt::Display for AdditivePowerOfTwo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alpha() == 1.0 {
            write!(f, "apot({})", self.bits)
        } else {
            write!(f, "apot({},alpha={})", self.bits, self.alpha())
        }
    }
}

impl ScalarFormat for AdditivePowerOfTwo {
    fn compare_boundary(&self, x: Wide, ends: (f64, f64), rounding: Rounding) -> Ordering {
        self.table.compare_boundary(x, ends, rounding)
    }

    type Grid<'a> = LevelGrid<'a>;

    fn grid(&self) -> LevelGrid<'_> {
        self.table.grid()
    }

    fn apply<P: Pass>(&self, pass: P) -> P::Output {
        self.grid().apply(pass)
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
        None
    }

    fn facts(&self) -> Facts {
        let count = self.values().len();
        let extent = Extent {
            // Codes that no value has decode to NaN.
            nan: count < 1 << self.bits(),
            ..Extent::of_list(count, self.min(), self.max())
        };
        Facts::new(self, extent)
    }

    fn bits(&self) -> u32 {
        self.bits.into()
    }

    fn min(&self) -> f32 {
        self.table.min()
    }

    fn max(&self) -> f32 {
        self.table.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positive(bits: u8) -> Vec<f32> {
        let format = AdditivePowerOfTwo::new(bits, 1.0).unwrap();
        format
            .values()
            .iter()
            .copied()
            .filter(|&x| x >= 0.0)
            .collect()
    }

    /// Two terms of two bits: p_0 from 0, 1, 1/4, 1/16 and p_1 from 0, 1/2, 1/8, 1/32. Counted in
    /// 32nds they are 0, 32, 8, 2 and 0, 16, 4, 1, and the largest sum is 48.
    #[test]
    fn five_bits_by_hand() {
        let mut sums: Vec<i32> = [0, 32, 8, 2]
            .iter()
            .flat_map(|a| [0, 16, 4, 1].map(|b| a + b))
            .collect();
        sums.sort_unstable();
        let expected: Vec<f32> = sums.iter().map(|&x| (f64::from(x) / 48.0) as f32).collect();
        assert_eq!(positive(5), expected);
    }

    /// One term: 0, 1/4, 1/2, 1. One term and one more bit: p from 0, 1, 1/2, 1/8 and q from 0, 1/4,
    /// over 5/4: in tenths 0 1 2 3 4 6 8 10.
    #[test]
    fn three_and_four_bits_by_hand() {
        assert_eq!(positive(3), [0.0, 0.25, 0.5, 1.0]);
        let tenths = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];
        assert_eq!(positive(4), tenths.map(|x: f64| (x / 10.0) as f32));
    }

    #[test]
    fn every_width_fills_its_codes() {
        for bits in 3..=9 {
            let format = AdditivePowerOfTwo::new(bits, 0.7).unwrap();
            assert_eq!(format.values().len(), (1 << bits) - 1, "{bits} bits");
            assert_eq!(format.table.bits(), u32::from(bits));
            assert_eq!(format.max(), 0.7);
        }
    }

    #[test]
    fn bad_parameters_are_errors() {
        for (bits, alpha) in [(2, 1.0), (10, 1.0), (5, 0.0), (5, f32::NAN), (9, 1e-44)] {
            assert!(
                AdditivePowerOfTwo::new(bits, alpha).is_err(),
                "{bits} {alpha}"
            );
        }
    }
}
