//! Logarithmic numbers.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::levels::{Boundary, LevelGrid, Levels};
use crate::scalar::{Pass, ScalarFormat, Wide};

/// Numbers stored as a sign and the logarithm of their magnitude.
///
/// The logarithm to base 2 is a two's complement fixed-point number of `integer` + `fraction` bits,
/// `fraction` of them after the point; its lowest value stands for zero. So the values are 0 and
/// `+-2^(k / 2^fraction)` with `k` from `-2^(integer+fraction-1) + 1` to
/// `2^(integer+fraction-1) - 1`, each rounded to `f32`, and a code is the sign bit and `k` in
/// two's complement. (Swartzlander and Alexopoulos, "The Sign/Logarithm Number System", 1975.)
///
/// The nearest modes round the logarithm: two values part at their geometric mean, which is never
/// an `f32`, so that there are no ties, and zero takes what rounds to its logarithm. `TowardZero`,
/// `Down`, `Up`, `ToOdd` (odd `k`) and `Stochastic` (probability proportional to the distance in
/// value, so unbiased) look at the neighbouring values, zero included. Numbers beyond the largest
/// magnitude, also infinite ones, go to it. -0.0 becomes 0.0, NaN stays NaN (its code is that of
/// zero), and subnormals are numbers like any other.
#[derive(Debug, Clone)]
pub struct Logarithmic {
    integer: u8,
    fraction: u8,
    levels: Arc<Levels>,
}

impl Logarithmic {
    /// Logarithms of `integer` bits (1 to 7, the sign of the logarithm included) before the point
    /// and `fraction` bits (0 to 8) after it, at least two in all.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if one of them is out of range.
    pub fn new(integer: u8, fraction: u8) -> Result<Self, FormatError> {
        check_range("lns", "integer", integer, 1..=7)?;
        if fraction > 8 || integer + fraction < 2 {
            return Err(FormatError::parameter(
                "lns",
                "fraction",
                fraction,
                "0 to 8, two bits with the integer's",
            ));
        }
        Ok(Self {
            integer,
            fraction,
            levels: Arc::new(levels(integer + fraction, fraction)),
        })
    }

    /// Bits of the logarithm before the point.
    pub fn integer(&self) -> u32 {
        self.integer.into()
    }

    /// Bits of the logarithm after the point.
    pub fn fraction(&self) -> u32 {
        self.fraction.into()
    }

    /// All values in ascending order.
    pub fn values(&self) -> &[f32] {
        self.levels.values()
    }

    /// The code of `x` rounded, in the lowest `bits` bits.
    pub fn encode(&self, x: f32, rounding: Rounding, random: u32) -> u32 {
        self.levels.encode(x, rounding, random)
    }

    /// The value of a code; bits above the lowest `bits` are ignored, and zero has no sign.
    pub fn decode(&self, code: u32) -> f32 {
        let width = u32::from(self.integer + self.fraction);
        // The sign of the logarithm goes to the top and comes back by the arithmetic shift.
        let k = (code << (32 - width)) as i32 >> (32 - width);
        if k == lowest(width as u8) {
            return 0.0;
        }
        let magnitude = power(f64::from(k), self.fraction) as f32;
        if code >> width & 1 == 0 {
            magnitude
        } else {
            -magnitude
        }
    }
}

impl FormatText for Logarithmic {
    const EXAMPLES: &'static [&'static str] = &["lns(4,3)"];

    fn has_name(name: &str) -> bool {
        name == "lns"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (numbers, options) = call.split(2)?;
        if let Some(option) = options.first() {
            return Err(Reason::option(option.key(), "none"));
        }
        Ok(Self::new(
            numbers[0].number("integer")?,
            numbers[1].number("fraction")?,
        )?)
    }
}

/// The lowest two's complement number of `width` bits, which stands for zero.
fn lowest(width: u8) -> i32 {
    -(1 << (width - 1))
}

/// `2^(k / 2^fraction)`.
fn power(k: f64, fraction: u8) -> f64 {
    (k / f64::from(1u32 << fraction)).exp2()
}

fn levels(width: u8, fraction: u8) -> Levels {
    let exponents = || lowest(width) + 1..-lowest(width);
    let mask = (1u32 << width) - 1;
    let entry = |k: i32| (power(f64::from(k), fraction) as f32, k as u32 & mask);
    let zero = (0.0, lowest(width) as u32 & mask);
    let negative = exponents()
        .rev()
        .map(entry)
        .map(|(x, code)| (-x, code | 1 << width));
    let entries: Vec<(f32, u32)> = negative
        .chain([zero])
        .chain(exponents().map(entry))
        .collect();
    let upward: Vec<Boundary> = exponents()
        .map(|k| {
            let middle = power(f64::from(k) - 0.5, fraction);
            let first = middle as f32;
            let first = if f64::from(first) < middle {
                first.next_up()
            } else {
                first
            };
            Boundary::same(first)
        })
        .collect();
    let mut boundaries: Vec<Boundary> = upward.iter().rev().map(Boundary::mirrored).collect();
    boundaries.extend(&upward);
    Levels::new(&entries, &boundaries)
}

impl fmt::Display for Logarithmic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lns({},{})", self.integer, self.fraction)
    }
}

impl PartialEq for Logarithmic {
    fn eq(&self, other: &Self) -> bool {
        (self.integer, self.fraction) == (other.integer, other.fraction)
    }
}

impl Eq for Logarithmic {}

impl Hash for Logarithmic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.integer, self.fraction).hash(state);
    }
}

impl ScalarFormat for Logarithmic {
    type Grid<'a> = LevelGrid<'a>;

    fn grid(&self) -> LevelGrid<'_> {
        LevelGrid(&self.levels)
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
        let whole = self.integer() as usize;
        fields(digits, &[("sign", 1), ("exponent", whole)], "fraction")
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        None
    }

    fn facts(&self) -> Facts {
        let count = self.values().len();
        Facts::new(self, Extent::of_list(count, self.min(), self.max()))
    }

    fn bits(&self) -> u32 {
        1 + u32::from(self.integer + self.fraction)
    }

    fn min(&self) -> f32 {
        -self.max()
    }

    /// Values part where their logarithms do, at a number that is irrational and known here to the
    /// last places of f64.
    fn compare_boundary(&self, x: Wide, (lower, upper): (f64, f64), _: Rounding) -> Ordering {
        let larger = lower.abs().max(upper.abs());
        let k = (larger.log2() * f64::from(1u32 << self.fraction)).round();
        let order = x.abs().compare(power(k - 0.5, self.fraction));
        if upper > 0.0 { order } else { order.reverse() }
    }

    fn max(&self) -> f32 {
        let values = self.values();
        values[values.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::Grid;

    fn nearest(format: &Logarithmic, x: f32) -> f32 {
        format.grid().round(x, Rounding::NearestEven, 0)
    }

    /// Two bits before the point and one after: k from -3 to 3 in halves, so the largest is
    /// 2^1.5 = 2.828 and the smallest 2^-1.5; 1 and sqrt(2) part at 2^0.25 = 1.18921, zero and the
    /// smallest at 2^-1.75 = 0.29730.
    #[test]
    fn four_bits_by_hand() {
        let format = Logarithmic::new(2, 1).unwrap();
        assert_eq!((format.bits(), format.values().len()), (4, 15));
        let root = std::f32::consts::SQRT_2;
        for (x, expected) in [
            (1.1892, 1.0),
            (1.1893, root),
            (-1.1893, -root),
            (0.2973, 0.0),
            (0.2974, 0.5 * 0.5f32.sqrt()),
            (9.0, 2.0 * root),
            (-f32::INFINITY, -2.0 * root),
            (-0.0, 0.0),
        ] {
            assert_eq!(nearest(&format, x).to_bits(), f32::to_bits(expected), "{x}");
        }
        assert!(nearest(&format, f32::NAN).is_nan());
        // k = -1 is 111; with the sign bit 1111. Zero is 100.
        let code = |x| format.encode(x, Rounding::NearestEven, 0);
        assert_eq!((code(-0.7), code(0.0), code(1.0)), (0b1111, 0b100, 0));
    }

    /// Where a rounded power lies on the grid of `f32`, an error of `exp2` in its last place could
    /// move it. Here every value and boundary is at least 2^-44 (relative) away from the next point
    /// at which its `f32` would change, some 250 times the last place of an `f64`.
    #[test]
    fn powers_are_far_from_where_they_would_round_otherwise() {
        for step in 0..512u32 {
            let value = (f64::from(step) / 512.0).exp2() * f64::from(1u32 << 23);
            // Values change at halves, boundaries at whole numbers.
            let from_grid = (value * 2.0 - (value * 2.0).round()).abs();
            assert!(from_grid > 2f64.powi(-20) || step == 0, "{step}");
        }
    }

    #[test]
    fn codes_decode_to_their_values() {
        for (integer, fraction) in [(1, 1), (2, 0), (4, 3), (7, 8)] {
            let format = Logarithmic::new(integer, fraction).unwrap();
            for &x in format.values() {
                let code = format.encode(x, Rounding::Up, 0);
                assert_eq!(format.decode(code).to_bits(), x.to_bits());
                assert!(code < 1 << format.bits());
            }
        }
    }

    #[test]
    fn bad_widths_are_errors() {
        for (integer, fraction) in [(0, 4), (8, 0), (3, 9), (1, 0)] {
            assert!(Logarithmic::new(integer, fraction).is_err());
        }
    }
}
