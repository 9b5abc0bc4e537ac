//! The binary floating-point formats for machine learning of IEEE P3109.

use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::fields;
use crate::scalar::float::grid::{FloatGrid, INFINITY, Layout, NAN, NarrowFloatGrid};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Grid, Pass, ScalarFormat};

/// `p3109(K,P)`: K bits in all, P of them precision, the leading bit counted.
///
/// IEEE Working Group P3109, interim report on binary floating-point formats for machine
/// learning. A code's upper bits are an exponent `e`, its lower P - 1 bits a mantissa `m`; the
/// value is `2^(e - bias) * (1 + m / 2^(P-1))`, or `2^(1 - bias) * m / 2^(P-1)` for `e = 0`.
/// There is one zero and one NaN. A signed format has a sign bit, a bias of `2^(K-P-1)`, and NaN
/// in the place of minus zero; an unsigned one has a bias of `2^(K-P)`, and NaN as its last code.
/// An extended format has infinity as the last code before NaN, or before the sign changes.
///
/// A number that rounds beyond the largest value becomes infinity, or NaN in a finite format;
/// with `saturate` (the report's SatFinite), it and infinity become the largest value. With no
/// mantissa (P = 1) a tie goes to the even code. In an unsigned format zero is the lowest value and
/// there is no negative infinity, so that every negative number becomes zero, minus infinity
/// included (the report's Saturate; gfloat 0.5.2 leaves this open).
///
/// NaN beyond the largest value of a finite format is what gfloat does. The report's Saturate, in
/// its later versions, gives the largest value there also without SatFinite; that is
/// `finite,saturate`.
///
/// Text: `p3109(8,4)`, then `unsigned`, `finite`, `saturate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct P3109 {
    width: u8,
    precision: u8,
    signed: bool,
    finite: bool,
    saturate: bool,
}

impl P3109 {
    /// Signed and extended.
    ///
    /// # Errors
    ///
    /// If `width` is not in 3..=16, `precision` not in `1..width`, or f32 does not hold the
    /// values, which takes `width - precision` up to 7.
    pub fn new(width: u8, precision: u8) -> Result<Self, FormatError> {
        let format = Self {
            width,
            precision,
            signed: true,
            finite: false,
            saturate: false,
        };
        format.checked()
    }

    /// The same without a sign bit.
    ///
    /// # Errors
    ///
    /// If f32 does not hold the values, which takes `width - precision` up to 6.
    pub fn unsigned(self) -> Result<Self, FormatError> {
        Self {
            signed: false,
            ..self
        }
        .checked()
    }

    /// The same without infinity.
    pub fn finite(self) -> Self {
        Self {
            finite: true,
            ..self
        }
    }

    /// The same with numbers beyond the largest value, and infinity, brought to that value.
    pub fn saturating(self) -> Self {
        Self {
            saturate: true,
            ..self
        }
    }

    /// Bits in all, K.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// Bits of precision, P.
    pub fn precision(&self) -> u8 {
        self.precision
    }

    /// Whether there are negative values.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Whether infinity is left out.
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    /// Whether numbers beyond the largest value become that value.
    pub fn saturates(&self) -> bool {
        self.saturate
    }

    /// What is subtracted from the stored exponent.
    pub fn bias(&self) -> i32 {
        1 << (self.width - self.precision - u8::from(self.signed))
    }

    fn checked(self) -> Result<Self, FormatError> {
        check_range("p3109", "width", self.width, 3..=16)?;
        let widest = if self.signed { 7 } else { 6 };
        let lowest = self.width.saturating_sub(widest).max(1);
        check_range(
            "p3109",
            "precision",
            self.precision,
            lowest..=self.width - 1,
        )?;
        Ok(self)
    }

    /// How many codes of magnitudes there are.
    fn magnitudes(&self) -> u32 {
        1 << (self.width - u8::from(self.signed))
    }

    fn layout(&self) -> Layout {
        // Infinity, and NaN if it is not in the place of minus zero, are the last codes.
        let specials = u32::from(!self.finite) + u32::from(!self.signed);
        Layout {
            mantissa: u32::from(self.precision) - 1,
            bias: self.bias(),
            subnormals: true,
            max_code: self.magnitudes() - 1 - specials,
        }
    }

    /// The code of NaN.
    fn nan_code(&self) -> u32 {
        if self.signed {
            self.magnitudes()
        } else {
            self.magnitudes() - 1
        }
    }
}

impl FormatText for P3109 {
    const EXAMPLES: &'static [&'static str] = &[
        "p3109(8,4)",
        "p3109(8,3,finite)",
        "p3109(8,4,unsigned)",
        "p3109(8,3,unsigned,finite,saturate)",
        "p3109(8,1)",
    ];

    fn has_name(name: &str) -> bool {
        name == "p3109"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (widths, options) = call.split(2)?;
        let width = widths[0].number("width")?;
        let mut format = Self::new(width, widths[1].number("precision")?)?;
        for option in options {
            format = match option.flag()? {
                "unsigned" => format.unsigned()?,
                "finite" => format.finite(),
                "saturate" => format.saturating(),
                other => return Err(Reason::option(other, "unsigned, finite, saturate")),
            };
        }
        Ok(format)
    }
}

impl fmt::Display for P3109 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p3109({},{}", self.width, self.precision)?;
        f.write_str(if self.signed { "" } else { ",unsigned" })?;
        f.write_str(if self.finite { ",finite" } else { "" })?;
        f.write_str(if self.saturate { ",saturate)" } else { ")" })
    }
}

impl ScalarFormat for P3109 {
    type Grid<'a> = P3109Grid;

    fn grid(&self) -> P3109Grid {
        let layout = self.layout();
        let beyond = match (self.saturate, self.finite) {
            (true, _) => layout.max().to_bits(),
            (false, false) => INFINITY,
            (false, true) => NAN,
        };
        P3109Grid {
            float: layout.grid(beyond, beyond, false),
            signed: self.signed,
        }
    }

    fn apply<P: Pass>(&self, pass: P) -> P::Output {
        let grid = self.grid();
        if self.signed {
            return grid.float.apply(pass);
        }
        match NarrowFloatGrid::new(&grid.float) {
            Some(float) => pass.run(NonNegative(float)),
            None => pass.run(NonNegative(grid.float)),
        }
    }

    fn bits(&self) -> u32 {
        self.width.into()
    }

    fn encode(&self, value: f32) -> u32 {
        if value.is_nan() {
            return self.nan_code();
        }
        let layout = self.layout();
        let magnitude = if value.abs() <= layout.max() {
            layout.encode(value.abs())
        } else {
            layout.max_code + u32::from(!self.finite)
        };
        match (value < 0.0, self.signed) {
            (true, true) if magnitude != 0 => magnitude | self.magnitudes(),
            (true, false) => 0,
            _ => magnitude,
        }
    }

    fn decode(&self, code: u32) -> f32 {
        let code = code & (u32::MAX >> (32 - self.bits()));
        if code == self.nan_code() {
            return f32::NAN;
        }
        let layout = self.layout();
        let magnitude = code & (self.magnitudes() - 1);
        let value = if magnitude <= layout.max_code {
            layout.decode(magnitude)
        } else {
            f32::INFINITY
        };
        if code == magnitude { value } else { -value }
    }

    fn code_text(&self, digits: &str) -> String {
        let fraction = usize::from(self.precision()) - 1;
        let sign = usize::from(self.is_signed());
        fields(digits, &[sign, digits.len() - sign - fraction])
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        None
    }

    fn facts(&self) -> Facts {
        let layout = self.layout();
        let positive = layout.positive_values() + u64::from(!self.finite);
        let extent = Extent {
            min: if self.signed { -layout.max() } else { 0.0 },
            max: layout.max(),
            min_normal: Some(layout.min_normal()),
            values: positive * if self.signed { 2 } else { 1 } + 1,
            infinity: !self.finite,
            nan: true,
            minus_zero: false,
        };
        Facts::new(self, extent)
    }

    fn min(&self) -> f32 {
        if self.signed { -self.max() } else { 0.0 }
    }

    fn max(&self) -> f32 {
        if self.finite || self.saturate {
            self.layout().max()
        } else {
            f32::INFINITY
        }
    }
}

/// The constants of rounding to a [`P3109`] format.
#[derive(Debug, Clone, Copy)]
pub struct P3109Grid {
    float: FloatGrid,
    signed: bool,
}

impl Grid for P3109Grid {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        if self.signed {
            self.float.round(x, rounding, random)
        } else {
            NonNegative(self.float).round(x, rounding, random)
        }
    }
}

/// A grid without a sign, whose lowest value is zero.
#[derive(Debug, Clone, Copy)]
struct NonNegative<G>(G);

impl<G: Grid> Grid for NonNegative<G> {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let x = if x < 0.0 { 0.0 } else { x };
        self.0.round(x, rounding, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(format: P3109, x: f32) -> f32 {
        format.grid().round(x, Rounding::NearestEven, 0)
    }

    /// Values of codes as gfloat 0.5.2 gives them for `p3109_k8p4{s,u}{e,f}`.
    #[test]
    fn binary8p4() {
        let signed = P3109::new(8, 4).unwrap();
        let unsigned = signed.unsigned().unwrap();
        let infinity = f32::INFINITY;
        let codes = [1, 8, 126, 127, 129, 253, 254, 255];
        let cases = [
            (
                signed,
                [
                    9.765_625e-4,
                    0.007_812_5,
                    224.0,
                    infinity,
                    -9.765_625e-4,
                    -208.0,
                    -224.0,
                    -infinity,
                ],
            ),
            (
                signed.finite(),
                [
                    9.765_625e-4,
                    0.007_812_5,
                    224.0,
                    240.0,
                    -9.765_625e-4,
                    -208.0,
                    -224.0,
                    -240.0,
                ],
            ),
        ];
        for (format, values) in cases {
            assert_eq!(codes.map(|code| format.decode(code)), values);
            assert_eq!(values.map(|value| format.encode(value)), codes);
            assert!(format.decode(0x80).is_nan());
        }
        let codes = [1, 8, 126, 127, 128, 129, 253, 254];
        let values = [
            3.814_697_3e-6,
            3.051_757_8e-5,
            0.875,
            0.9375,
            1.0,
            1.125,
            53248.0,
            infinity,
        ];
        assert_eq!(codes.map(|code| unsigned.decode(code)), values);
        assert_eq!(values.map(|value| unsigned.encode(value)), codes);
        assert_eq!(unsigned.finite().decode(254), 57344.0);
        assert!(unsigned.decode(255).is_nan());
        assert_eq!(unsigned.encode(f32::NAN), 255);
        assert_eq!(signed.encode(f32::NAN), 0x80);
    }

    /// As gfloat 0.5.2 rounds to `p3109_k8p1se`: a tie goes to the even code.
    #[test]
    fn binary8p1_ties_to_the_even_code() {
        let format = P3109::new(8, 1).unwrap();
        let unit = 2f32.powi(-63);
        assert_eq!(format.decode(1), unit);
        for (x, expected) in [
            (1.5, 1.0),
            (3.0, 4.0),
            (6.0, 4.0),
            (0.5 * unit, 0.0),
            (1.4 * unit, unit),
            (1.5 * unit, 2.0 * unit),
        ] {
            assert_eq!(nearest(format, x), expected, "{x}");
        }
    }

    #[test]
    fn beyond_the_limits() {
        let signed = P3109::new(8, 4).unwrap();
        assert_eq!(nearest(signed, -1e9), f32::NEG_INFINITY);
        assert!(nearest(signed.finite(), 1e9).is_nan());
        assert_eq!(nearest(signed.saturating(), f32::INFINITY), 224.0);
        assert_eq!(nearest(signed, -1e-9).to_bits(), 0);
    }

    /// The report's Saturate brings what lies below the lowest value to it, in all three of its
    /// modes and every rounding, unless there is a negative infinity; the lowest is zero.
    #[test]
    fn negative_numbers_are_zero_without_a_sign() {
        let unsigned = P3109::new(8, 4).unwrap().unsigned().unwrap();
        for format in [unsigned, unsigned.finite(), unsigned.saturating()] {
            for x in [-1e-9, -1.0, -1e9, f32::NEG_INFINITY, -0.0] {
                for mode in [Rounding::NearestEven, Rounding::Down, Rounding::TowardZero] {
                    assert_eq!(format.grid().round(x, mode, 0).to_bits(), 0, "{x}");
                }
            }
            assert!(nearest(format, -f32::NAN).is_nan());
        }
    }

    #[test]
    fn bad_parameters_are_errors() {
        assert!(P3109::new(2, 1).is_err());
        assert!(P3109::new(17, 12).is_err());
        assert!(P3109::new(8, 0).is_err());
        assert!(P3109::new(8, 8).is_err());
        assert!(P3109::new(9, 1).is_err());
        assert!(P3109::new(8, 1).unwrap().unsigned().is_err());
    }
}
