//! Codebooks: formats whose values are a table.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use crate::error::FormatError;
use crate::rounding::Rounding;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::levels::{LevelGrid, Levels};
use crate::scalar::{Pass, ScalarFormat, Wide};

mod boundaries;
mod named;
mod text;

use boundaries::{Parts, sign_bit};
use named::Table;

/// The most values that a table can have.
pub const MAX_VALUES: usize = 4096;

/// Which value nearest rounding takes for a number between two of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The nearest: they part at the arithmetic mean.
    Nearest,
    /// They part at the geometric mean, so that the nearest in ratio is taken. Neighbours of
    /// different signs, or zero and its neighbour, part at the arithmetic mean, but for a table
    /// with a sign and without zero: there magnitudes up to `zero_up_to` become zero.
    GeometricMean {
        /// The largest magnitude that becomes zero in a table with a sign; QPyTorch has 1e-4.
        zero_up_to: f32,
    },
    /// They part at given thresholds, ascending. In a table of magnitudes there is one for each
    /// value, and a magnitude above it reaches the value (at or below the first one it becomes
    /// zero); else there is one between each two values, and a number at or above it takes the
    /// upper one. Nothing keeps a threshold from lying beyond the values that it parts, so that
    /// nearest rounding takes a value to another.
    Thresholds(Vec<f32>),
}

/// A table of values times a scale.
///
/// `values * scale`, each product rounded to `f32`, are the numbers of the format; with a sign,
/// the values are magnitudes, and the numbers are zero and `+-values * scale`. The code of a value
/// is its index in the ascending table; with a sign, it is the magnitude's index (counted from 1
/// if the table has no zero, and zero is 0) below a sign bit.
///
/// # Rounding
///
/// The nearest modes follow the [`Decision`]; a number as near to both neighbours goes to the even
/// code, away from zero, or to the upper one. In a table with a sign and without zero, the nearest
/// modes of [`Decision::Nearest`] give zero for zero only, as QPyTorch does: other numbers keep
/// at least the smallest magnitude. `TowardZero` (the neighbour of the smaller magnitude, the
/// upper one of two that are as far from zero), `Down`, `Up`, `ToOdd` (the neighbour with the odd
/// code) and `Stochastic` (probability proportional to the distance from the other neighbour)
/// look at the neighbouring values only. Numbers beyond the table, also infinite ones, go to its
/// ends, -0.0 counts as 0.0, subnormals are numbers like any other, and NaN stays NaN; its
/// code is the lowest that no number has, or that of zero rounded if each has one.
#[derive(Debug, Clone)]
pub struct Codebook {
    name: Option<&'static str>,
    values: Vec<f32>,
    with_sign: bool,
    decision: Decision,
    scale: f32,
    levels: Arc<Levels>,
}

impl Codebook {
    /// The table of `values`, in any order.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if there is no value or more than [`MAX_VALUES`], or one is
    /// twice there or not finite.
    pub fn new(values: &[f32]) -> Result<Self, FormatError> {
        Self::build(None, sorted(values)?, false, Decision::Nearest, 1.0)
    }

    /// The table of magnitudes `values`, in any order, each with either sign, and zero.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if a value is negative, or only zero is there.
    pub fn with_sign(values: &[f32]) -> Result<Self, FormatError> {
        let values = sorted(values)?;
        if values[0] < 0.0 || values[values.len() - 1] == 0.0 {
            let expected = "magnitudes, not all zero, in a table with a sign";
            return Err(FormatError::parameter(
                "table",
                "values",
                format!("{values:?}"),
                expected,
            ));
        }
        Self::build(None, values, true, Decision::Nearest, 1.0)
    }

    /// A table that has a name; see [`names`](Self::names).
    pub fn named(name: &str) -> Option<Self> {
        Self::known(name).cloned()
    }

    /// As [`named`](Self::named), built once.
    pub(crate) fn known(name: &str) -> Option<&'static Self> {
        static KNOWN: LazyLock<Vec<Codebook>> = LazyLock::new(|| {
            let tables = named::tables();
            tables.iter().filter_map(Codebook::of_table).collect()
        });
        KNOWN.iter().find(|format| format.name == Some(name))
    }

    fn of_table(table: &Table) -> Option<Self> {
        let format = if table.with_sign {
            Self::with_sign(&table.values)
        } else {
            Self::new(&table.values)
        };
        let format = format
            .and_then(|format| format.with_decision(table.decision()))
            .ok()?;
        Some(Self {
            name: Some(table.name),
            ..format
        })
    }

    /// As the grid of any scalar format, by its own type.
    pub(crate) fn grid_of_table(&self) -> LevelGrid<'_> {
        LevelGrid(&self.levels)
    }

    /// The names of the known tables.
    ///
    /// - `nf4`: the 4-bit NormalFloat of QLoRA (arXiv 2305.14314, appendix E), quantiles of the
    ///   normal distribution scaled to [-1, 1];
    /// - `fp4`: the 4-bit float of the bitsandbytes library, `0 0.0625 2 3 4 6 8 12` over 12 with a
    ///   sign, not that of OCP, whose name is `e2m1`;
    /// - `qpytorch-weight` and `qpytorch-activation`: the two tables built into QPyTorch's extended
    ///   version, as its `new_format_quantize` and `act_format_quantize`;
    /// - `binary`: -1 and 1, with 1 for numbers from zero on (arXiv 1602.02830, equation 1);
    /// - `ternary`: -1, 0 and 1, with 0 for magnitudes up to a threshold, 1/2 if no other is given
    ///   (arXiv 1605.04711, equation 3, where the threshold is 0.7 times the mean magnitude);
    /// - `bitsandbytes-nf4` and `bitsandbytes-fp4`: the values of `nf4` and `fp4`, which part where
    ///   bitsandbytes' kernels have them part: at middles rounded to `f32`, of which `fp4`'s have six
    ///   to eight digits, and a number at one takes the lower value, of `fp4` the lower magnitude;
    /// - `bitsandbytes-dynamic`: the 8-bit dynamic map of bitsandbytes (arXiv 2110.02861, section
    ///   1.3, after arXiv 1511.04561): of `10^(i-6)`, `i` from 0 to 6, the middles of `2^i` equal
    ///   parts of 0.1 to 1, with either sign, and 0 and 1, all in `f32`. They part at their middles,
    ///   rounded to `f32`, which belong to the even code.
    pub fn names() -> impl Iterator<Item = &'static str> {
        named::tables().iter().map(|table| table.name)
    }

    /// The same table with every value multiplied by `scale`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if `scale` is not a positive finite number, or if two products
    /// are equal, or one is infinite.
    pub fn scaled(self, scale: f32) -> Result<Self, FormatError> {
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(FormatError::parameter(
                "table",
                "scale",
                scale,
                "a positive number",
            ));
        }
        Self::build(self.name, self.values, self.with_sign, self.decision, scale)
    }

    /// The same table with another decision of nearest rounding. Thresholds and `zero_up_to` are
    /// multiplied by the scale as the values are.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if thresholds do not ascend, are not finite, are not as many as
    /// [`Decision::Thresholds`] says, or, with a sign, are negative.
    pub fn with_decision(self, decision: Decision) -> Result<Self, FormatError> {
        Self::build(self.name, self.values, self.with_sign, decision, self.scale)
    }

    /// The table without the scale, ascending.
    pub fn table(&self) -> &[f32] {
        &self.values
    }

    /// Whether the table holds magnitudes.
    pub fn has_sign(&self) -> bool {
        self.with_sign
    }

    /// The decision of nearest rounding.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The factor on every value.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// All numbers of the format in ascending order.
    pub fn values(&self) -> &[f32] {
        self.levels.values()
    }

    /// The code of `x` rounded, in the lowest [`bits`](ScalarFormat::bits) bits.
    pub fn encode(&self, x: f32, rounding: Rounding, random: u32) -> u32 {
        let unused = self.levels.unused_code();
        if x.is_nan() && unused < 1 << self.bits() {
            return unused;
        }
        self.levels.encode(x, rounding, random)
    }

    /// The number of a code, NaN for a code that no number has (beyond the table, or minus zero).
    /// Bits above the lowest [`bits`](ScalarFormat::bits) are ignored.
    pub fn decode(&self, code: u32) -> f32 {
        self.levels.decode(code & (u32::MAX >> (32 - self.bits())))
    }

    fn build(
        name: Option<&'static str>,
        values: Vec<f32>,
        with_sign: bool,
        decision: Decision,
        scale: f32,
    ) -> Result<Self, FormatError> {
        let scaled: Vec<f32> = values.iter().map(|x| x * scale).collect();
        let distinct = scaled.windows(2).all(|pair| pair[0] < pair[1]);
        let vanished = with_sign && scaled[0] == 0.0 && values[0] != 0.0;
        if !scaled.iter().all(|x| x.is_finite()) || !distinct || vanished {
            let expected = "a number that keeps the values finite and apart";
            return Err(FormatError::parameter("table", "scale", scale, expected));
        }
        let parts = Parts {
            values: &scaled,
            decision: &decision,
            scale,
        };
        let levels = if with_sign {
            parts.levels_with_sign()?
        } else {
            parts.levels()?
        };
        Ok(Self {
            name,
            values,
            with_sign,
            decision,
            scale,
            levels: Arc::new(levels),
        })
    }
}

fn sorted(values: &[f32]) -> Result<Vec<f32>, FormatError> {
    if values.is_empty() || values.len() > MAX_VALUES {
        let expected = format!("1 to {MAX_VALUES} of them");
        return Err(FormatError::parameter(
            "table",
            "values",
            values.len(),
            expected,
        ));
    }
    if let Some(x) = values.iter().find(|x| !x.is_finite()) {
        return Err(FormatError::parameter(
            "table",
            "values",
            x,
            "finite numbers",
        ));
    }
    // Minus zero becomes zero.
    let mut values: Vec<f32> = values.iter().map(|x| x + 0.0).collect();
    values.sort_by(f32::total_cmp);
    if let Some(pair) = values.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(FormatError::parameter(
            "table",
            "values",
            pair[0],
            "each value once",
        ));
    }
    Ok(values)
}

impl ScalarFormat for Codebook {
    type Grid<'a> = LevelGrid<'a>;

    fn grid(&self) -> LevelGrid<'_> {
        LevelGrid(&self.levels)
    }

    fn apply<P: Pass>(&self, pass: P) -> P::Output {
        self.grid().apply(pass)
    }

    fn encode(&self, value: f32) -> u32 {
        // Thresholds, which may lie anywhere, do not matter to a value of the table.
        Self::encode(self, value, Rounding::TowardZero, 0)
    }

    fn decode(&self, code: u32) -> f32 {
        Self::decode(self, code)
    }

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        let sign = usize::from(self.has_sign());
        fields(digits, &[("sign", sign)], "index")
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        IntegerRange::of_values(self.values())
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
        if self.with_sign {
            let has_zero = self.values[0] == 0.0;
            return sign_bit(self.values.len() - usize::from(has_zero)).ilog2() + 1;
        }
        (self.values.len() as u32 - 1).checked_ilog2().unwrap_or(0) + 1
    }

    fn min(&self) -> f32 {
        self.values()[0]
    }

    fn max(&self) -> f32 {
        self.values()[self.values().len() - 1]
    }

    fn compare_boundary(
        &self,
        x: Wide,
        (lower, upper): (f64, f64),
        rounding: Rounding,
    ) -> Ordering {
        let negative = x.is_negative();
        let away = if negative {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        let beside_zero = lower == 0.0 || upper == 0.0;
        let zero_alone = self.with_sign && beside_zero && self.values[0] != 0.0;
        // A threshold is an f32, and so its neighbour, at which the other value begins.
        let at_threshold = match rounding {
            Rounding::NearestAway => away.reverse(),
            Rounding::NearestUp => Ordering::Less,
            _ => away,
        };
        match &self.decision {
            Decision::Nearest if zero_alone => away,
            Decision::Nearest => x.compare_middle(lower, upper),
            Decision::GeometricMean { .. } if zero_alone => at_threshold,
            Decision::GeometricMean { .. } if lower * upper <= 0.0 => {
                x.compare_middle(lower, upper)
            }
            Decision::GeometricMean { .. } => {
                let mean = f64::from((lower * upper).sqrt() as f32);
                x.compare(if negative { -mean } else { mean })
            }
            Decision::Thresholds(_) if self.with_sign => at_threshold,
            Decision::Thresholds(_) => Ordering::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::Call;
    use crate::scalar::FormatText;

    fn parse(text: &str) -> Codebook {
        Codebook::from_call(&Call::parse(text).unwrap()).unwrap()
    }

    fn nearest(format: &Codebook, x: f32) -> f32 {
        crate::Grid::round(&format.grid(), x, Rounding::NearestEven, 0)
    }

    /// The values that bitsandbytes and NNCF publish for NF4, to all digits.
    #[test]
    fn nf4() {
        let published = [
            -1.0,
            -0.696_192_800_998_687_7,
            -0.525_073_051_452_636_7,
            -0.394_917_488_098_144_53,
            -0.284_441_381_692_886_35,
            -0.184_773_430_228_233_34,
            -0.091_050_036_251_544_95,
            0.0,
            0.079_580_299_556_255_34,
            0.160_930_201_411_247_25,
            0.246_112_301_945_686_34,
            0.337_915_241_718_292_24,
            0.440_709_829_330_444_34,
            0.562_617_003_917_694_1,
            0.722_956_836_223_602_3,
            1.0,
        ];
        let format = Codebook::named("nf4").unwrap();
        let values: Vec<f64> = format.values().iter().map(|&x| f64::from(x)).collect();
        assert_eq!(values, published);
        assert_eq!(
            (format.bits(), format.encode(0.0, Rounding::NearestEven, 0)),
            (4, 7)
        );
        assert_eq!(format.decode(15), 1.0);
    }

    /// QPyTorch's loop over a table takes the magnitude with the smallest error, zero for zero only;
    /// 10.0 lies nearer to 8 than to 16, and 1e-9 goes to 2^-12.
    #[test]
    fn qpytorch_tables() {
        let format = Codebook::named("qpytorch-activation").unwrap();
        assert_eq!(format.values().len(), 65);
        for (x, expected) in [
            (10.0, 8.0),
            (-1e9, -16.0),
            (1e-9, 1.0 / 4096.0),
            (-1e-45, -1.0 / 4096.0),
            (0.0, 0.0),
            (0.6, 0.625),
            (-2.7, -3.0),
        ] {
            assert_eq!(nearest(&format, x), expected, "{x}");
        }
        let format = Codebook::named("qpytorch-weight").unwrap();
        // Between 9/64 and 3/16 = 12/64 the middle is 10.5/64; halfway, code 27 = 9/64 is odd and
        // code 28 = 3/16 is even.
        assert_eq!(nearest(&format, 10.5 / 64.0), 12.0 / 64.0);
        assert_eq!(nearest(&format, 10.4 / 64.0), 9.0 / 64.0);
        assert_eq!(format.bits(), 7);
    }

    /// fp4 by its thresholds as the bitsandbytes kernel has them (0.29166667 and so on, the middles
    /// of the twelfths).
    #[test]
    fn fp4() {
        let format = Codebook::named("fp4").unwrap();
        for (x, twelfths) in [(0.291, 3.0), (0.292, 4.0), (-0.84, -12.0), (0.0025, 0.0)] {
            assert_eq!(nearest(&format, x), twelfths / 12.0, "{x}");
        }
        assert_eq!(format.bits(), 4);
    }

    #[test]
    fn binary_and_ternary() {
        let binary = parse("binary(scale=0.25)");
        for (x, expected) in [(0.0, 0.25), (-0.0, 0.25), (-1e-45, -0.25), (9.0, 0.25)] {
            assert_eq!(nearest(&binary, x), expected);
        }
        assert_eq!(binary.bits(), 1);
        // Thresholds are scaled with the values: 0.3 * 2.
        let ternary = parse("ternary(thresholds(0.3),scale=2)");
        for (x, expected) in [
            (0.6, 0.0),
            (0.61, 2.0),
            (-0.6, 0.0),
            (-7.0, -2.0),
            (0.0, 0.0),
        ] {
            assert_eq!(nearest(&ternary, x), expected, "{x}");
        }
        assert_eq!(ternary.bits(), 2);
    }

    /// The geometric mean of 1 and 4 is 2, at which QPyTorch's `>` still takes the lower value.
    #[test]
    fn geometric_mean_by_hand() {
        let format = parse("table(1,4,sign,geometric=0.0001)");
        for (x, expected) in [
            (2.0, 1.0),
            (2.0f32.next_up(), 4.0),
            (-2.0, -1.0),
            (-(2.0f32.next_up()), -4.0),
            (0.0001, 0.0),
            (0.000_101, 1.0),
        ] {
            assert_eq!(nearest(&format, x), expected, "{x}");
        }
        // -4 and -1 part at -2, -1 and 2 halfway at 0.5.
        let format = parse("table(-4,-1,2,geometric=0)");
        for (x, expected) in [(-2.1, -4.0), (-1.9, -1.0), (0.4, -1.0), (0.6, 2.0)] {
            assert_eq!(nearest(&format, x), expected, "{x}");
        }
    }

    #[test]
    fn texts_print_as_themselves() {
        for text in [
            "nf4",
            "fp4(scale=0.5)",
            "binary",
            "ternary(thresholds(0.25))",
            "qpytorch-weight",
            "table(-1,0,2.5)",
            "table(1,2,sign,geometric=0.0001)",
            "table(-1,1,thresholds(0.5),scale=3)",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse("table(2,-1)"), parse("table(-1,2)"));
    }

    #[test]
    fn bad_tables_are_errors() {
        for text in [
            "table(sign)",
            "table(1,1)",
            "table(1,nan)",
            "table(-1,2,sign)",
            "table(0,sign)",
            "table(1,2,scale=0)",
            "table(1,1.25,scale=1e-45)",
            "table(1,sign,scale=1e-46)",
            "table(1,1e30,scale=1e20)",
            "table(1,2,thresholds(1,2))",
            "table(1,2,sign,thresholds(2,1))",
            "table(1,2,size=3)",
        ] {
            assert!(
                Codebook::from_call(&Call::parse(text).unwrap()).is_err(),
                "{text}"
            );
        }
        assert!(Codebook::new(&[0.0; 5000]).is_err());
    }
}
