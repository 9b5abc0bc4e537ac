//! Floating point of any exponent and mantissa width that f32 can hold.

pub(crate) mod grid;
mod named;

use crate::error::{FormatError, check_range};
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields};
use crate::scalar::float::grid::{FloatGrid, INFINITY, Layout, NAN};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Pass, ScalarFormat};

/// Which codes stand for infinity and NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Specials {
    /// The highest exponent is for infinity and NaN (IEEE 754-2019, section 3.4).
    #[default]
    Ieee,
    /// No infinity; exponent and mantissa of all ones are NaN (OCP 8-bit floating point, E4M3).
    Fn,
    /// No infinity and no minus zero, whose code is the one NaN.
    Fnuz,
    /// Every code is a number (OCP microscaling, FP6 and FP4). Always saturates.
    Finite,
}

/// A sign, `exponent` bits `e` and `mantissa` bits `m`.
///
/// The value is `(-1)^s * 2^(e - bias) * (1 + m / 2^mantissa)`, and for `e = 0`
/// `(-1)^s * 2^(1 - bias) * m / 2^mantissa`, the subnormals. Without subnormals, `e = 0` is zero
/// alone, and numbers below `2^(1 - bias)` are rounded to zero or to it.
///
/// A number that rounds beyond the largest value becomes infinity, or NaN where there is none,
/// as in IEEE 754-2019, section 7.4 (rounding toward zero, to odd, or away from the infinity in
/// question gives the largest value); infinity stays, or becomes NaN. With `saturate`, both
/// become the largest value. NaN stays NaN, even where no code holds it. A minus zero stays
/// except in `fnuz`.
///
/// Text: `float(exponent,mantissa)`, then `bias=..`, `flush` (no subnormals), `fn`, `fnuz` or
/// `finite`, `saturate`. A format with a name of its own prints as that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Float {
    exponent: u8,
    mantissa: u8,
    bias: i16,
    subnormals: bool,
    specials: Specials,
    saturate: bool,
}

impl Float {
    /// IEEE-like: a bias of `2^(exponent-1) - 1`, subnormals, infinity and NaN.
    ///
    /// # Errors
    ///
    /// If `exponent` is not in 1..=8 or `mantissa` not in 0..=23, or no finite value but zero is
    /// left.
    pub fn new(exponent: u8, mantissa: u8) -> Result<Self, FormatError> {
        Self::with_specials(exponent, mantissa, Specials::Ieee)
    }

    /// With other special codes; the bias of `fnuz` is `2^(exponent-1)`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if the largest value exceeds f32.
    pub fn with_specials(
        exponent: u8,
        mantissa: u8,
        specials: Specials,
    ) -> Result<Self, FormatError> {
        check_range("float", "exponent", exponent, 1..=8)?;
        check_range("float", "mantissa", mantissa, 0..=23)?;
        Self {
            exponent,
            mantissa,
            bias: default_bias(exponent, specials),
            subnormals: true,
            specials,
            saturate: specials == Specials::Finite,
        }
        .checked()
    }

    /// The same with another bias.
    ///
    /// # Errors
    ///
    /// If the values leave the range of f32: the smallest normal must be at least `2^-126`, the
    /// largest value below `2^128`.
    pub fn with_bias(self, bias: i16) -> Result<Self, FormatError> {
        Self { bias, ..self }.checked()
    }

    /// The same without subnormals.
    ///
    /// # Errors
    ///
    /// If no value but zero is left.
    pub fn without_subnormals(self) -> Result<Self, FormatError> {
        Self {
            subnormals: false,
            ..self
        }
        .checked()
    }

    /// The same with numbers beyond the largest value, and infinities, brought to that value.
    pub fn saturating(self) -> Self {
        Self {
            saturate: true,
            ..self
        }
    }

    /// The same with numbers beyond the largest value brought to infinity or NaN, where there is one.
    pub(crate) fn overflowing(self) -> Self {
        Self {
            saturate: self.specials == Specials::Finite,
            ..self
        }
    }

    /// Bits of the exponent.
    pub fn exponent(&self) -> u8 {
        self.exponent
    }

    /// Bits of the mantissa, without the leading bit.
    pub fn mantissa(&self) -> u8 {
        self.mantissa
    }

    /// What is subtracted from the stored exponent.
    pub fn bias(&self) -> i16 {
        self.bias
    }

    /// Whether there are subnormals.
    pub fn has_subnormals(&self) -> bool {
        self.subnormals
    }

    /// Which codes stand for infinity and NaN.
    pub fn specials(&self) -> Specials {
        self.specials
    }

    /// Whether numbers beyond the largest value become that value.
    pub fn saturates(&self) -> bool {
        self.saturate
    }

    /// The largest finite value.
    pub fn max_finite(&self) -> f32 {
        self.layout().max()
    }

    /// The smallest positive normal value, `2^(1 - bias)`.
    pub fn min_normal(&self) -> f32 {
        self.layout().min_normal()
    }

    /// The smallest positive value.
    pub fn min_positive(&self) -> f32 {
        self.layout().min_positive()
    }

    fn layout(&self) -> Layout {
        let mantissa = u32::from(self.mantissa);
        let exponents = 1u32 << self.exponent;
        Layout {
            mantissa,
            bias: self.bias.into(),
            subnormals: self.subnormals,
            max_code: match self.specials {
                Specials::Ieee => ((exponents - 1) << mantissa) - 1,
                Specials::Fn => (exponents << mantissa) - 2,
                Specials::Fnuz | Specials::Finite => (exponents << mantissa) - 1,
            },
        }
    }

    /// Whether f32 holds every value, and zero is not the only one.
    fn checked(self) -> Result<Self, FormatError> {
        let layout = self.layout();
        let (low, high) = layout.biases();
        check_range("float", "bias", i32::from(self.bias), low..=high)?;
        let only_subnormals = layout.max_code >> self.mantissa == 0;
        if layout.max_code == 0 || (only_subnormals && !self.subnormals) {
            return Err(FormatError::parameter(
                "float",
                "exponent",
                self.exponent,
                "at least 2, or there is no value but zero",
            ));
        }
        Ok(self)
    }

    /// The magnitude bits of the code of NaN, if there is one.
    fn nan_code(&self) -> Option<u32> {
        let all_ones = (1u32 << (self.exponent + self.mantissa)) - 1;
        match self.specials {
            Specials::Ieee if self.mantissa == 0 => None,
            // The upper half of the mantissa: a quiet NaN.
            Specials::Ieee => Some(self.layout().max_code + 1 + (1 << (self.mantissa - 1))),
            Specials::Fn => Some(all_ones),
            Specials::Fnuz | Specials::Finite => None,
        }
    }
}

fn default_bias(exponent: u8, specials: Specials) -> i16 {
    let half = 1 << (exponent - 1);
    match specials {
        Specials::Fnuz => half,
        _ => half - 1,
    }
}

impl ScalarFormat for Float {
    type Grid<'a> = FloatGrid;

    fn grid(&self) -> FloatGrid {
        let layout = self.layout();
        let beyond = match (self.saturate, self.specials) {
            (true, _) | (_, Specials::Finite) => layout.max().to_bits(),
            (false, Specials::Ieee) => INFINITY,
            (false, Specials::Fn | Specials::Fnuz) => NAN,
        };
        layout.grid(beyond, beyond, self.specials != Specials::Fnuz)
    }

    fn apply<P: Pass>(&self, pass: P) -> P::Output {
        self.grid().apply(pass)
    }

    fn bits(&self) -> u32 {
        1 + u32::from(self.exponent) + u32::from(self.mantissa)
    }

    fn encode(&self, value: f32) -> u32 {
        let sign = 1 << (self.exponent + self.mantissa);
        let layout = self.layout();
        let magnitude = if value.is_nan() {
            match self.nan_code() {
                Some(code) => code,
                // The code of minus zero, or for want of a NaN that of zero.
                None if self.specials == Specials::Fnuz => return sign,
                None => return 0,
            }
        } else if value.abs() <= layout.max() {
            layout.encode(value.abs())
        } else if self.specials == Specials::Ieee {
            layout.max_code + 1
        } else {
            layout.max_code
        };
        let negative = value.is_sign_negative();
        let minus_zero = magnitude == 0 && self.specials == Specials::Fnuz;
        magnitude | if negative && !minus_zero { sign } else { 0 }
    }

    fn decode(&self, code: u32) -> f32 {
        let sign = 1 << (self.exponent + self.mantissa);
        let layout = self.layout();
        let magnitude = code & (sign - 1);
        let value = if magnitude <= layout.max_code {
            layout.decode(magnitude)
        } else if self.specials == Specials::Ieee && magnitude == layout.max_code + 1 {
            f32::INFINITY
        } else {
            f32::NAN
        };
        match (code & sign != 0, self.specials) {
            (false, _) => value,
            (true, Specials::Fnuz) if magnitude == 0 => f32::NAN,
            // A code that would be subnormal is zero where there are no subnormals.
            (true, Specials::Fnuz) if value == 0.0 => value,
            (true, _) => -value,
        }
    }

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        let exponent = self.exponent().into();
        fields(digits, &[("sign", 1), ("exponent", exponent)], "mantissa")
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        None
    }

    fn facts(&self) -> Facts {
        let layout = self.layout();
        let infinity = self.specials == Specials::Ieee;
        let extent = Extent {
            min: -layout.max(),
            max: layout.max(),
            min_normal: Some(layout.min_normal()),
            values: 2 * layout.positive_values() + 1 + if infinity { 2 } else { 0 },
            infinity,
            nan: self.nan_code().is_some() || self.specials == Specials::Fnuz,
            minus_zero: self.specials != Specials::Fnuz,
        };
        Facts::new(self, extent)
    }

    fn min(&self) -> f32 {
        -self.max()
    }

    fn max(&self) -> f32 {
        match self.specials {
            Specials::Ieee if !self.saturate => f32::INFINITY,
            _ => self.max_finite(),
        }
    }

    fn past_ends(&self) -> (f64, f64) {
        let past = self.layout().past_max();
        (-past, past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounding::Rounding;
    use crate::scalar::Grid;

    fn float(name: &str) -> Float {
        Float::named(name).unwrap()
    }

    /// Largest, smallest normal and smallest positive values as the standards' tables have them.
    #[test]
    fn limits_of_named_formats() {
        let cases: [(&str, f32, f32, f32); 11] = [
            ("fp32", f32::MAX, f32::MIN_POSITIVE, 1e-45),
            ("fp16", 65504.0, 6.103_515_6e-5, 5.960_464_5e-8),
            ("bf16", 3.389_531_4e38, 1.175_494_4e-38, 9.183_55e-41),
            ("e5m2", 57344.0, 6.103_515_6e-5, 1.525_878_9e-5),
            ("e4m3", 448.0, 0.015_625, 0.001_953_125),
            ("e4m3fnuz", 240.0, 0.007_812_5, 0.000_976_562_5),
            ("e5m2fnuz", 57344.0, 3.051_757_8e-5, 7.629_394_5e-6),
            ("e3m4", 15.5, 0.25, 0.015_625),
            ("e3m2", 28.0, 0.25, 0.0625),
            ("e2m3", 7.5, 1.0, 0.125),
            ("e2m1", 6.0, 1.0, 0.5),
        ];
        for (name, max, min_normal, min_positive) in cases {
            let format = float(name);
            assert_eq!(format.max_finite(), max, "{name}");
            assert_eq!(format.min_normal(), min_normal, "{name}");
            assert_eq!(format.min_positive(), min_positive, "{name}");
        }
    }

    /// e2m1 by hand: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
    #[test]
    fn e2m1_by_hand() {
        let grid = float("e2m1").grid();
        let cases = [
            // x, nearest-even, nearest-away, nearest-up, toward zero, down, up, to odd
            (0.25, [0.0, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5]),
            (0.75, [1.0, 1.0, 1.0, 0.5, 0.5, 1.0, 0.5]),
            (-1.25, [-1.0, -1.5, -1.0, -1.0, -1.5, -1.0, -1.5]),
            (-1.75, [-2.0, -2.0, -1.5, -1.5, -2.0, -1.5, -1.5]),
            (2.5, [2.0, 3.0, 3.0, 2.0, 2.0, 3.0, 3.0]),
            (5.0, [4.0, 6.0, 6.0, 4.0, 4.0, 6.0, 6.0]),
            (1e-45, [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5]),
            (7.0, [6.0; 7]),
            (1e30, [6.0; 7]),
            (f32::NEG_INFINITY, [-6.0; 7]),
        ];
        let modes = Rounding::DETERMINISTIC;
        for (x, expected) in cases {
            for (mode, expected) in modes.into_iter().zip(expected) {
                assert_eq!(grid.round(x, mode, 0), expected, "{mode:?} {x}");
            }
        }
        assert!(grid.round(f32::NAN, Rounding::NearestEven, 0).is_nan());
    }

    /// OCP 8-bit floating point, section 5.2, and ml_dtypes: 464 ties to 448, more is NaN.
    #[test]
    fn overflow_of_e4m3() {
        let nearest = |format: Float, x: f32| format.grid().round(x, Rounding::NearestEven, 0);
        let e4m3 = float("e4m3");
        assert_eq!(nearest(e4m3, 464.0), 448.0);
        assert!(nearest(e4m3, 464.01).is_nan());
        assert!(nearest(e4m3, -f32::INFINITY).is_nan());
        assert_eq!(nearest(e4m3.saturating(), 1e9), 448.0);
        assert_eq!(nearest(e4m3.saturating(), -f32::INFINITY), -448.0);
        assert_eq!(e4m3.grid().round(1e9, Rounding::TowardZero, 0), 448.0);
        assert_eq!(nearest(float("e5m2"), 61440.0), f32::INFINITY);
        assert_eq!(nearest(float("e5m2"), 61439.0), 57344.0);
        assert_eq!(nearest(float("e4m3fnuz"), -1e-9).to_bits(), 0);
        assert_eq!(nearest(e4m3, -1e-9).to_bits(), 0x8000_0000);
    }

    /// IEEE 754-2019, section 7.4.
    #[test]
    fn directed_overflow() {
        let grid = float("fp16").grid();
        assert_eq!(grid.round(7e4, Rounding::Down, 0), 65504.0);
        assert_eq!(grid.round(7e4, Rounding::Up, 0), f32::INFINITY);
        assert_eq!(grid.round(-7e4, Rounding::Up, 0), -65504.0);
        assert_eq!(grid.round(-7e4, Rounding::Down, 0), f32::NEG_INFINITY);
        assert_eq!(grid.round(f32::INFINITY, Rounding::Down, 0), f32::INFINITY);
    }

    #[test]
    fn fp32_changes_nothing() {
        let grid = float("fp32").grid();
        for bits in (0..=u32::MAX - 0xFFFF).step_by(0xFFFF) {
            let x = f32::from_bits(bits);
            let y = grid.round(x, Rounding::Up, 0);
            assert!(y.to_bits() == bits || (x.is_nan() && y.is_nan()));
        }
    }

    #[test]
    fn without_subnormals_small_numbers_go_to_zero_or_the_smallest_normal() {
        // The smallest normal of float(4,3) is 2^-6.
        let grid = Float::new(4, 3)
            .unwrap()
            .without_subnormals()
            .unwrap()
            .grid();
        let smallest = 0.015_625;
        let nearest = |x| grid.round(x, Rounding::NearestEven, 0);
        assert_eq!(nearest(0.5 * smallest), 0.0);
        assert_eq!(nearest(0.51 * smallest), smallest);
        assert_eq!(nearest(0.99 * smallest), smallest);
        assert_eq!(nearest(1.07 * smallest), 1.125 * smallest);
        // bf16 without subnormals: all of f32's subnormals vanish or become 2^-126.
        let bf16 = float("bf16").without_subnormals().unwrap().grid();
        assert_eq!(bf16.round(5e-39, Rounding::NearestEven, 0), 0.0);
        assert_eq!(
            bf16.round(6e-39, Rounding::NearestEven, 0),
            f32::MIN_POSITIVE
        );
        assert_eq!(bf16.round(-1e-45, Rounding::Down, 0), -f32::MIN_POSITIVE);
    }

    /// With no mantissa a tie goes to the even exponent: of 1 and 2, whose codes are 7 and 8 with
    /// a bias of 7, to 2; of 2 and 4, codes 8 and 9, to 2.
    #[test]
    fn powers_of_two_tie_to_the_even_code() {
        let grid = Float::new(4, 0).unwrap().grid();
        assert_eq!(grid.round(1.5, Rounding::NearestEven, 0), 2.0);
        assert_eq!(grid.round(3.0, Rounding::NearestEven, 0), 2.0);
        let odd_bias = Float::new(4, 0).unwrap().with_bias(8).unwrap().grid();
        assert_eq!(odd_bias.round(1.5, Rounding::NearestEven, 0), 1.0);
    }

    #[test]
    fn stochastic_probability_by_hand() {
        // Of 1.25 in e2m1, halfway between 1 and 1.5, half of the random numbers go up; of 0.125,
        // a quarter of the smallest value, a quarter do.
        let grid = float("e2m1").grid();
        let rounding = Rounding::stochastic(0, 0);
        for (x, up) in [(1.25, 8), (0.125, 4), (-4.5, 4), (5.5, 12)] {
            let values = (0..16u32).map(|r| grid.round(x, rounding, r << 28));
            let low = grid.round(x, Rounding::TowardZero, 0);
            assert_eq!(values.filter(|y| *y != low).count(), up, "{x}");
        }
    }

    #[test]
    fn bad_parameters_are_errors() {
        assert!(Float::new(0, 3).is_err());
        assert!(Float::new(9, 3).is_err());
        assert!(Float::new(4, 24).is_err());
        assert!(Float::new(1, 0).is_err());
        assert!(Float::new(1, 2).unwrap().without_subnormals().is_err());
        assert!(Float::with_specials(8, 3, Specials::Fn).is_err());
        assert!(Float::new(8, 3).unwrap().with_bias(128).is_err());
        assert!(Float::new(8, 3).unwrap().with_bias(126).is_err());
        assert!(Float::new(4, 3).unwrap().with_bias(i16::MIN).is_err());
        // The largest exponents are 2 - -125 and 2 - -126.
        assert!(Float::new(2, 4).unwrap().with_bias(-125).is_ok());
        assert!(Float::new(2, 4).unwrap().with_bias(-126).is_err());
    }
}
