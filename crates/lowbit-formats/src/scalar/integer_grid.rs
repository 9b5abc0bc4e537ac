//! Integers times a power of two: what integer hardware holds of a tensor.

use crate::error::{FormatError, check_range};
use crate::scalar::power_of_two;

/// The integers of a width, times a power of two: `k 2^exponent` for `k` from `-2^(bits-1)` to
/// `2^(bits-1) - 1` where they are signed, from 0 to `2^bits - 1` where they are not.
///
/// A trained threshold `t` (Jain et al., arXiv 1903.08066, equation 4) gives the exponent
/// `ceil(log2 t) - magnitude_bits`, where the magnitude has one bit less than the integer if there
/// is a sign. As a format it is `fixed(bits, -exponent)` or `ufixed(bits, -exponent)`, where those
/// reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IntegerGrid {
    bits: u32,
    signed: bool,
    exponent: i32,
}

impl IntegerGrid {
    /// Exponents for which the step and its inverse are normal `f32`.
    pub const EXPONENTS: std::ops::RangeInclusive<i32> = -126..=126;

    /// A grid.
    ///
    /// # Errors
    ///
    /// If `bits` is not from 1 to 64, or the exponent not in [`EXPONENTS`](Self::EXPONENTS).
    pub fn new(bits: u32, signed: bool, exponent: i32) -> Result<Self, FormatError> {
        check_range("integer grid", "bits", bits, 1..=64)?;
        check_range("integer grid", "exponent", exponent, Self::EXPONENTS)?;
        Ok(Self {
            bits,
            signed,
            exponent,
        })
    }

    /// The grid of a threshold, whose base-2 logarithm is rounded up: `2^ceil(log2_threshold)` is
    /// the first power of two that signed integers do not reach. The exponent is held to
    /// [`EXPONENTS`](Self::EXPONENTS). `None` if the logarithm is NaN.
    ///
    /// # Panics
    ///
    /// If `bits` is not from 1 to 64.
    pub fn from_log2_threshold(log2_threshold: f32, bits: u32, signed: bool) -> Option<Self> {
        assert!((1..=64).contains(&bits), "bits is {bits}, expected 1 to 64");
        if log2_threshold.is_nan() {
            return None;
        }
        let magnitude_bits = bits - u32::from(signed);
        let (least, largest) = (*Self::EXPONENTS.start(), *Self::EXPONENTS.end());
        let exponent = log2_threshold.ceil() - magnitude_bits as f32;
        Some(Self {
            bits,
            signed,
            exponent: exponent.clamp(least as f32, largest as f32) as i32,
        })
    }

    /// Bits of an integer, sign included.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Whether there are negative integers.
    pub fn signed(&self) -> bool {
        self.signed
    }

    /// The exponent of the step.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// Bits of the magnitude: all, less one for the sign.
    pub fn magnitude_bits(&self) -> u32 {
        self.bits - u32::from(self.signed)
    }

    /// The distance of neighbours, `2^exponent`.
    pub fn step(&self) -> f32 {
        power_of_two(self.exponent)
    }

    /// The least and the greatest number that are not clipped: half a step beyond the least and
    /// the greatest value.
    pub fn ends(&self) -> (f32, f32) {
        let magnitudes = (self.magnitude_bits() as f32).exp2();
        let least = if self.signed { magnitudes + 0.5 } else { 0.5 };
        (-least * self.step(), (magnitudes - 0.5) * self.step())
    }

    /// The integers and the exponent.
    pub fn range(&self) -> IntegerRange {
        let magnitudes = 1i128 << self.magnitude_bits();
        IntegerRange {
            exponent: self.exponent,
            min: if self.signed { -magnitudes } else { 0 },
            max: magnitudes - 1,
        }
    }

    /// The constants of rounding to the grid. They are exact for magnitudes of up to 24 bits; of
    /// wider ones, f32 has `2^magnitude_bits` in place of the greatest integer.
    pub fn rounding(&self) -> IntegerRounding {
        let magnitudes = (self.magnitude_bits() as f32).exp2();
        IntegerRounding {
            step: self.step(),
            inverse: power_of_two(-self.exponent),
            least: if self.signed { -magnitudes } else { 0.0 },
            greatest: magnitudes - 1.0,
            tie: f32::NAN,
        }
    }
}

/// The constants of rounding to an [`IntegerGrid`], of which kernels keep copies in registers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntegerRounding {
    /// The step.
    pub step: f32,
    /// `1 / step`.
    pub inverse: f32,
    /// The least integer.
    pub least: f32,
    /// The greatest integer.
    pub greatest: f32,
    /// What lies between a number and the even integer below it where that is taken for the next:
    /// one half where ties go up, and NaN, which nothing is, where they stay.
    tie: f32,
}

impl IntegerRounding {
    /// The same with ties to the upper integer, as hardware rounds that adds a half and shifts.
    pub fn with_ties_up(self) -> Self {
        Self { tie: 0.5, ..self }
    }

    /// A number of steps as a whole number, not yet clipped.
    #[inline(always)]
    pub fn nearest(self, scaled: f32) -> f32 {
        let even = scaled.round_ties_even();
        // The difference is exact.
        if scaled - even == self.tie {
            even + 1.0
        } else {
            even
        }
    }

    /// Of a grid whose step is not a number: everything becomes NaN.
    pub fn not_a_number() -> Self {
        Self {
            step: f32::NAN,
            inverse: f32::NAN,
            least: 0.0,
            greatest: 0.0,
            tie: f32::NAN,
        }
    }

    /// `clip(round(x / step), least, greatest) step`, ties to the even integer or up. NaN stays NaN, and a
    /// negative number that becomes zero becomes minus zero.
    #[inline(always)]
    pub fn round(self, x: f32) -> f32 {
        let k = self.nearest(x * self.inverse);
        let k = if k < self.least { self.least } else { k };
        let k = if k > self.greatest { self.greatest } else { k };
        k * self.step
    }
}

/// Integers times a power of two, `k 2^exponent` with `min <= k <= max`, some of which may be left
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegerRange {
    /// Exponent of the step.
    pub exponent: i32,
    /// The least integer.
    pub min: i128,
    /// The greatest integer.
    pub max: i128,
}

impl IntegerRange {
    /// The range of values that are all multiples of their smallest magnitude, a power of two, by
    /// less than 2^62. `None` for others.
    pub(crate) fn of_values(values: &[f32]) -> Option<Self> {
        let magnitudes = values.iter().map(|v| f64::from(v.abs()));
        let step = magnitudes.filter(|v| *v > 0.0).reduce(f64::min)?;
        let exponent = step.log2();
        let integers: Vec<f64> = values.iter().map(|&v| f64::from(v) / step).collect();
        let fits = |k: &f64| k.fract() == 0.0 && k.abs() < 2f64.powi(62);
        if exponent.fract() != 0.0 || !integers.iter().all(fits) {
            return None;
        }
        let extreme = |choose: fn(f64, f64) -> f64| integers.iter().copied().fold(0.0, choose);
        Some(Self {
            exponent: exponent as i32,
            min: extreme(f64::min) as i128,
            max: extreme(f64::max) as i128,
        })
    }

    /// The least and the greatest sum of `terms` products with integers of another range, in units
    /// of both steps' product. They are limits of every partial sum, too, since zero is among the
    /// sums.
    pub fn sum_of_products(&self, other: &Self, terms: usize) -> (i128, i128) {
        let products =
            [self.min, self.max].map(|a| [other.min, other.max].map(|b| a.saturating_mul(b)));
        let products = products.into_iter().flatten();
        let least = products.clone().fold(0, i128::min);
        let greatest = products.fold(0, i128::max);
        let terms = terms as i128;
        (least.saturating_mul(terms), greatest.saturating_mul(terms))
    }
}

/// The fewest bits of a two's complement number that holds everything from `least` to `greatest`.
pub fn bits_of(least: i128, greatest: i128) -> u32 {
    let bits = |value: i128| {
        let magnitude = if value < 0 { !value } else { value };
        129 - magnitude.leading_zeros()
    };
    bits(least).max(bits(greatest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FixedPoint, Grid, Rounding, ScalarFormat};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    /// Equation 4 of arXiv 1903.08066 in f64, which holds every step and product exactly; the step
    /// is held to 2^-126 and 2^126.
    fn equation_4(x: f32, log2_threshold: f32, bits: u32, signed: bool) -> f64 {
        let magnitude_bits = f64::from(bits - u32::from(signed));
        let exponent = f64::from(log2_threshold).ceil() - magnitude_bits;
        let s = exponent.clamp(-126.0, 126.0).exp2();
        let p = magnitude_bits.exp2() - 1.0;
        let n = if signed { -p - 1.0 } else { 0.0 };
        (f64::from(x) / s).round_ties_even().clamp(n, p) * s
    }

    fn numbers() -> impl Iterator<Item = f32> {
        // Everything from zero to infinity, of both signs, a million apart.
        let magnitudes = (0..=f32::INFINITY.to_bits()).step_by(999_983);
        let ties = (-600..600).map(|k| k as f32 / 16.0);
        magnitudes
            .flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
            .chain(ties)
    }

    #[test]
    fn rounding_is_equation_4_and_fixed_point() {
        for bits in [2, 3, 4, 8, 16, 24] {
            for signed in [true, false] {
                for log2_threshold in [-20.5, -1.0, -0.3, 0.0, 0.7, 5.0, 17.2] {
                    let grid = IntegerGrid::from_log2_threshold(log2_threshold, bits, signed);
                    let grid = grid.unwrap();
                    let fraction = i8::try_from(-grid.exponent()).ok();
                    let fixed = fraction.and_then(|f| FixedPoint::new(bits as u8, f).ok());
                    let fixed = fixed.map(|f| if signed { f } else { f.unsigned() });
                    for x in numbers() {
                        let y = grid.rounding().round(x);
                        let expected = equation_4(x, log2_threshold, bits, signed) as f32;
                        assert_eq!(y.to_bits(), expected.to_bits(), "{grid:?} {x}");
                        if let Some(fixed) = fixed {
                            let z = fixed.grid().round(x, Rounding::NearestEven, 0);
                            // The format has no minus zero.
                            assert_eq!((y + 0.0).to_bits(), z.to_bits(), "{grid:?} {x}");
                            let y = grid.rounding().with_ties_up().round(x);
                            let z = fixed.grid().round(x, Rounding::NearestUp, 0);
                            assert_eq!((y + 0.0).to_bits(), z.to_bits(), "{grid:?} {x}");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            ..ProptestConfig::with_cases(20_000)
        })]

        /// Any number, any threshold, every width that thresholds are trained with.
        #[test]
        fn any_number_on_any_grid(
            x in any::<u32>().prop_map(f32::from_bits),
            log2_threshold in prop_oneof![-150f32..150.0, any::<u32>().prop_map(f32::from_bits)],
            bits in 2u32..=24,
            signed in any::<bool>(),
        ) {
            let grid = IntegerGrid::from_log2_threshold(log2_threshold, bits, signed);
            let Some(grid) = grid else {
                prop_assert!(log2_threshold.is_nan());
                return Ok(());
            };
            let y = grid.rounding().round(x);
            let expected = equation_4(x, log2_threshold, bits, signed) as f32;
            prop_assert!(y.to_bits() == expected.to_bits() || x.is_nan() && y.is_nan());
            let remade = IntegerGrid::new(bits, signed, grid.exponent());
            prop_assert_eq!(remade, Ok(grid));
        }
    }

    /// Signed, 3 bits, threshold 2^ceil(0.3) = 2: step 2/4, integers -4 to 3.
    #[test]
    fn a_grid_by_hand() {
        let grid = IntegerGrid::from_log2_threshold(0.3, 3, true).unwrap();
        assert_eq!((grid.exponent(), grid.step()), (-1, 0.5));
        assert_eq!(grid.ends(), (-2.25, 1.75));
        let range = IntegerRange {
            exponent: -1,
            min: -4,
            max: 3,
        };
        assert_eq!(grid.range(), range);
        let unsigned = IntegerGrid::from_log2_threshold(0.3, 3, false).unwrap();
        assert_eq!((unsigned.exponent(), unsigned.range().max), (-2, 7));
        assert_eq!(unsigned.ends(), (-0.125, 1.875));
        assert_eq!(grid, IntegerGrid::new(3, true, -1).unwrap());
    }

    #[test]
    fn thresholds_at_the_ends_and_beyond() {
        let grid = |t| IntegerGrid::from_log2_threshold(t, 8, true);
        assert_eq!(grid(f32::NAN), None);
        assert_eq!(grid(f32::INFINITY).unwrap().exponent(), 126);
        assert_eq!(grid(-1e30).unwrap().exponent(), -126);
        assert!(IntegerRounding::not_a_number().round(1.0).is_nan());
        assert!(IntegerGrid::new(0, true, 0).is_err());
        assert!(IntegerGrid::new(65, true, 0).is_err());
        assert!(IntegerGrid::new(8, true, 127).is_err());
    }

    #[test]
    fn bits_of_twos_complement() {
        for (limits, bits) in [
            ((-128, 127), 8),
            ((-129, 127), 9),
            ((0, 128), 9),
            ((-1, 0), 1),
            ((0, 0), 1),
            ((i128::from(i64::MIN), 0), 64),
        ] {
            assert_eq!(bits_of(limits.0, limits.1), bits, "{limits:?}");
        }
    }

    /// 9 products of -128..127 and 0..255: -128 * 255 * 9 = -293,760 and 127 * 255 * 9 = 291,465,
    /// within 2^19 = 524,288.
    #[test]
    fn limits_of_a_sum() {
        let range = |bits, signed| IntegerGrid::new(bits, signed, 0).unwrap().range();
        let limits = range(8, false).sum_of_products(&range(8, true), 9);
        assert_eq!(limits, (-293_760, 291_465));
        assert_eq!(bits_of(limits.0, limits.1), 20);
    }

    #[test]
    fn ranges_of_formats() {
        let range = |text: &str| {
            let range = text.parse::<crate::Format>().unwrap().integer_range()?;
            Some((range.exponent, range.min, range.max))
        };
        assert_eq!(range("fixed(8,6)"), Some((-6, -128, 127)));
        assert_eq!(range("ufixed(8,8)"), Some((-8, 0, 255)));
        assert_eq!(range("int4"), Some((0, -8, 7)));
        // 0 and +-2^-2, 2^-1, 1.
        assert_eq!(range("pot(3)"), Some((-2, -4, 4)));
        assert_eq!(range("ternary"), Some((0, -1, 1)));
        assert_eq!(range("nf4"), None);
        assert_eq!(range("e4m3"), None);
        assert_eq!(range("unit(4)"), None);
    }
}
