//! The binary floating-point formats for machine learning of IEEE P3109.

use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields};
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
/// With no mantissa (P = 1) a tie goes to the even code. Numbers are rounded first and saturated
/// then, as the report's Saturate says (version 4.0 of June 2026, section 4.7.5):
///
/// - Without an option (SatNone), a number that rounds beyond the largest value becomes infinity,
///   in a finite format the largest value, where also infinity goes. Rounding towards zero or away
///   from the infinity in question gives the largest value; rounding to odd does in an unsigned
///   format, where its code is odd, while in a signed one that of infinity is. In an unsigned format a
///   number that rounds below zero becomes NaN, or zero where it is rounded toward zero or up; minus
///   infinity becomes NaN.
/// - With `saturate` (SatFinite), what lies beyond the limits becomes the limit, infinities included.
/// - With `propagate` (SatPropagate), finite numbers saturate and infinities stay where there are
///   any.
///
/// gfloat 0.5.2 gives NaN beyond the largest value of a finite format, and negative numbers in an
/// unsigned one.
///
/// Text: `p3109(8,4)`, then `unsigned`, `finite`, and `saturate` or `propagate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct P3109 {
    width: u8,
    precision: u8,
    signed: bool,
    finite: bool,
    saturation: Saturation,
}

/// What becomes of numbers beyond the limits of a [`P3109`] format; the report's saturation modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Saturation {
    /// SatNone: they overflow.
    #[default]
    None,
    /// SatFinite: all become the limit.
    Finite,
    /// SatPropagate: finite numbers become the limit, and infinities stay.
    Propagate,
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
            saturation: Saturation::None,
        };
        format.checked()
    }

    /// Unsigned and extended, which a precision of the whole width allows, too.
    ///
    /// # Errors
    ///
    /// If `width` is not in 3..=16, `precision` not in `1..=width`, or f32 does not hold the
    /// values, which takes `width - precision` up to 6.
    pub fn new_unsigned(width: u8, precision: u8) -> Result<Self, FormatError> {
        let format = Self {
            width,
            precision,
            signed: false,
            finite: false,
            saturation: Saturation::None,
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
        self.with_saturation(Saturation::Finite)
    }

    /// The same with another treatment of numbers beyond the limits.
    pub fn with_saturation(self, saturation: Saturation) -> Self {
        Self { saturation, ..self }
    }

    /// What becomes of numbers beyond the limits.
    pub fn saturation(&self) -> Saturation {
        self.saturation
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

    /// Whether numbers beyond the largest value, infinity included, become that value.
    pub fn saturates(&self) -> bool {
        self.saturation == Saturation::Finite
    }

    /// What is subtracted from the stored exponent.
    pub fn bias(&self) -> i32 {
        1 << (self.width - self.precision - u8::from(self.signed))
    }

    fn checked(self) -> Result<Self, FormatError> {
        check_range("p3109", "width", self.width, 3..=16)?;
        let widest = if self.signed { 7 } else { 6 };
        let lowest = self.width.saturating_sub(widest).max(1);
        let highest = self.width - u8::from(self.signed);
        check_range("p3109", "precision", self.precision, lowest..=highest)?;
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

    /// Whether numbers that round below zero become NaN.
    fn nan_below(&self) -> bool {
        !self.signed && self.saturation == Saturation::None
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
        let precision = widths[1].number("precision")?;
        let mut format = if options.iter().any(|option| option.key() == "unsigned") {
            Self::new_unsigned(width, precision)?
        } else {
            Self::new(width, precision)?
        };
        for option in options {
            format = match option.flag()? {
                "unsigned" => format,
                "finite" => format.finite(),
                "saturate" => format.with_saturation(Saturation::Finite),
                "propagate" => format.with_saturation(Saturation::Propagate),
                other => {
                    let known = "unsigned, finite, saturate, propagate";
                    return Err(Reason::option(other, known));
                }
            };
        }
        call.exclusive(&["saturate", "propagate"])?;
        Ok(format)
    }
}

impl fmt::Display for P3109 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p3109({},{}", self.width, self.precision)?;
        f.write_str(if self.signed { "" } else { ",unsigned" })?;
        f.write_str(if self.finite { ",finite" } else { "" })?;
        f.write_str(match self.saturation {
            Saturation::None => ")",
            Saturation::Finite => ",saturate)",
            Saturation::Propagate => ",propagate)",
        })
    }
}

impl ScalarFormat for P3109 {
    type Grid<'a> = P3109Grid;

    fn grid(&self) -> P3109Grid {
        let layout = self.layout();
        let max = layout.max().to_bits();
        let (overflow, infinity) = match (self.saturation, self.finite) {
            (Saturation::Finite, _) | (_, true) => (max, max),
            (Saturation::None, false) => (INFINITY, INFINITY),
            (Saturation::Propagate, false) => (max, INFINITY),
        };
        P3109Grid {
            float: FloatGrid {
                odd_to_max: layout.max_code % 2 == 1,
                ..layout.grid(overflow, infinity, false)
            },
            signed: self.signed,
            nan_below: self.nan_below(),
        }
    }

    fn apply<P: Pass>(&self, pass: P) -> P::Output {
        let grid = self.grid();
        if self.signed {
            return grid.float.apply(pass);
        }
        match NarrowFloatGrid::new(&grid.float) {
            Some(float) => pass.run(NonNegative {
                grid: float,
                nan_below: grid.nan_below,
            }),
            None => pass.run(NonNegative {
                grid: grid.float,
                nan_below: grid.nan_below,
            }),
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

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        let fraction = usize::from(self.precision()) - 1;
        let sign = usize::from(self.is_signed());
        let exponent = digits.len() - sign - fraction;
        fields(
            digits,
            &[("sign", sign), ("exponent", exponent)],
            "mantissa",
        )
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
        if self.finite || self.saturates() {
            self.layout().max()
        } else {
            f32::INFINITY
        }
    }

    fn past_ends(&self) -> (f64, f64) {
        let layout = self.layout();
        let past = layout.past_max();
        if self.signed {
            (-past, past)
        } else {
            // What rounds to the first number below zero becomes NaN.
            (-f64::from(layout.min_positive()), past)
        }
    }
}

/// The constants of rounding to a [`P3109`] format.
#[derive(Debug, Clone, Copy)]
pub struct P3109Grid {
    float: FloatGrid,
    signed: bool,
    /// Whether negative numbers become NaN, in a format without a sign.
    nan_below: bool,
}

impl Grid for P3109Grid {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        if self.signed {
            self.float.round(x, rounding, random)
        } else {
            NonNegative {
                grid: self.float,
                nan_below: self.nan_below,
            }
            .round(x, rounding, random)
        }
    }
}

/// A grid without a sign, whose lowest value is zero.
#[derive(Debug, Clone, Copy)]
struct NonNegative<G> {
    grid: G,
    nan_below: bool,
}

impl<G: Grid> Grid for NonNegative<G> {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let rounded = self.grid.round(x, rounding, random);
        // Numbers are rounded before they are found to be below zero.
        let upwards = matches!(rounding, Rounding::TowardZero | Rounding::Up);
        let nan = self.nan_below && !(upwards && x > f32::NEG_INFINITY);
        let below = if nan { f32::from_bits(NAN) } else { 0.0 };
        if rounded < 0.0 { below } else { rounded }
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
        assert_eq!(nearest(signed.finite(), 1e9), 240.0);
        assert_eq!(nearest(signed.saturating(), f32::INFINITY), 224.0);
        assert_eq!(nearest(signed, -1e-9).to_bits(), 0);
    }

    /// What a number beyond the largest value becomes, infinity, their opposites, in the order of
    /// [`Rounding::DETERMINISTIC`]: to nearest (even, away), toward zero, down, up, to odd.
    type Row = (&'static str, [f32; 6], [f32; 6], [f32; 6], [f32; 6]);

    /// The rows of the report's Saturate (version 4.0, section 4.7.5) that let infinities be; `MAX`
    /// stands for the largest value. In a signed extended format the largest code is even, so that
    /// odd is infinity.
    const EXTENDED: [Row; 3] = [
        (
            "p3109(8,4)",
            [INF, INF, MAX, MAX, INF, INF],
            [INF; 6],
            [-INF, -INF, -MAX, -INF, -MAX, -INF],
            [-INF; 6],
        ),
        (
            "p3109(8,1)",
            [INF, INF, MAX, MAX, INF, INF],
            [INF; 6],
            [-INF, -INF, -MAX, -INF, -MAX, -INF],
            [-INF; 6],
        ),
        (
            "p3109(8,4,unsigned)",
            [INF, INF, MAX, MAX, INF, MAX],
            [INF; 6],
            [NAN, NAN, 0.0, NAN, 0.0, NAN],
            [NAN; 6],
        ),
    ];

    /// The rows of those that are finite, saturate or propagate.
    const SATURATING: [Row; 9] = [
        (
            "p3109(8,4,finite)",
            [MAX; 6],
            [MAX; 6],
            [-MAX; 6],
            [-MAX; 6],
        ),
        (
            "p3109(8,4,unsigned,finite)",
            [MAX; 6],
            [MAX; 6],
            [NAN, NAN, 0.0, NAN, 0.0, NAN],
            [NAN; 6],
        ),
        (
            "p3109(8,4,saturate)",
            [MAX; 6],
            [MAX; 6],
            [-MAX; 6],
            [-MAX; 6],
        ),
        (
            "p3109(8,4,finite,saturate)",
            [MAX; 6],
            [MAX; 6],
            [-MAX; 6],
            [-MAX; 6],
        ),
        (
            "p3109(8,4,unsigned,saturate)",
            [MAX; 6],
            [MAX; 6],
            [0.0; 6],
            [0.0; 6],
        ),
        (
            "p3109(8,4,propagate)",
            [MAX; 6],
            [INF; 6],
            [-MAX; 6],
            [-INF; 6],
        ),
        (
            "p3109(8,4,finite,propagate)",
            [MAX; 6],
            [MAX; 6],
            [-MAX; 6],
            [-MAX; 6],
        ),
        (
            "p3109(8,4,unsigned,propagate)",
            [MAX; 6],
            [INF; 6],
            [0.0; 6],
            [0.0; 6],
        ),
        (
            "p3109(8,4,unsigned,finite,propagate)",
            [MAX; 6],
            [MAX; 6],
            [0.0; 6],
            [0.0; 6],
        ),
    ];

    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    const MAX: f32 = f32::MAX;

    #[test]
    fn saturation_row_by_row() {
        for (text, high, infinite, low, minus_infinite) in EXTENDED.into_iter().chain(SATURATING) {
            let format: crate::Format = text.parse().unwrap();
            assert_eq!(format.to_string(), text);
            let columns = [
                (3e38, high),
                (INF, infinite),
                (-3e38, low),
                (-INF, minus_infinite),
            ];
            for (x, expected) in columns {
                let mut modes = Rounding::DETERMINISTIC.to_vec();
                // The report has no such mode; far from a tie it is any other to nearest.
                modes.retain(|mode| *mode != Rounding::NearestUp);
                for (mode, expected) in modes.into_iter().zip(expected) {
                    row_of(&format, x, mode, expected);
                }
                row_of(&format, x, Rounding::NearestUp, expected[0]);
            }
        }
    }

    /// One number by itself, by the vector kernels, and from f64.
    fn row_of(format: &crate::Format, x: f32, mode: Rounding, expected: f32) {
        let expected = if expected.abs() == MAX {
            format.facts().max.copysign(expected)
        } else {
            expected
        };
        let kernel = format.quantize_to_vec(&[x], mode).unwrap()[0];
        let wide = format.round_f64(x.into(), mode, 0);
        for ours in [format.round(x, mode, 0), kernel, wide] {
            let same = ours.to_bits() == expected.to_bits();
            assert!(
                same || (ours.is_nan() && expected.is_nan()),
                "{format} {mode} {x}: {ours}"
            );
        }
    }

    /// Rounding comes before saturation: half of the smallest value below zero is a tie with zero.
    #[test]
    fn below_zero_without_a_sign() {
        let format = P3109::new(8, 4).unwrap().unsigned().unwrap();
        let smallest = format.decode(1);
        let round = |x: f32, mode| format.grid().round(x, mode, 0);
        assert_eq!(round(-0.5 * smallest, Rounding::NearestEven).to_bits(), 0);
        assert!(round(-0.5 * smallest, Rounding::NearestAway).is_nan());
        assert!(round(-0.6 * smallest, Rounding::NearestEven).is_nan());
        assert!(round(-0.1 * smallest, Rounding::Down).is_nan());
        assert_eq!(round(-0.1 * smallest, Rounding::Up).to_bits(), 0);
        assert_eq!(round(-0.0, Rounding::Down).to_bits(), 0);
    }

    /// Unsigned with K = P = 4, from the report's formulas: a bias of 1, one exponent bit, steps of
    /// 2^-3 from 0 to 13/8, then infinity and NaN.
    #[test]
    fn precision_of_the_whole_width() {
        let format = P3109::new_unsigned(4, 4).unwrap();
        let values: Vec<f32> = (0..14).map(|code| format.decode(code)).collect();
        let expected: Vec<f32> = (0..14).map(|i| i as f32 / 8.0).collect();
        assert_eq!(values, expected);
        assert_eq!(format.decode(14), f32::INFINITY);
        assert!(format.decode(15).is_nan());
        assert_eq!(nearest(format, 1.7), f32::INFINITY);
        assert_eq!(nearest(format.finite(), 1.7), 1.75);
        let text: crate::Format = "p3109(4,4,unsigned)".parse().unwrap();
        assert_eq!(text, crate::Format::P3109(format));
        assert!("p3109(4,4)".parse::<crate::Format>().is_err());
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
