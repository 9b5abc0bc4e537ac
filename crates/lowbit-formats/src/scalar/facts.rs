//! What there is to know about a format.

use serde::Serialize;

use crate::rounding::Rounding;
use crate::scalar::{Grid, ScalarFormat};

/// Facts about a format, all derived from its definition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Facts {
    /// Bits of a code.
    pub bits: u32,
    /// The smallest finite value.
    pub min: f32,
    /// The largest finite value.
    pub max: f32,
    /// The smallest positive normal value, where there are normal values.
    pub min_normal: Option<f32>,
    /// The smallest positive value, subnormal where there are subnormals. `int1` has none.
    pub min_positive: Option<f32>,
    /// The distance from 1 to the next larger value, where both are values.
    pub epsilon: Option<f32>,
    /// `log10(max / min_positive)`.
    pub range_decades: Option<f64>,
    /// `log2(max / min_positive)`.
    pub range_bits: Option<f64>,
    /// The number of distinct values: infinities count, NaN does not, zero counts once.
    pub values: u64,
    /// Whether a code stands for infinity.
    pub infinity: bool,
    /// Whether a code stands for NaN.
    pub nan: bool,
    /// Whether a code stands for minus zero.
    pub minus_zero: bool,
}

/// The facts that rounding does not tell.
pub(crate) struct Extent {
    pub(crate) min: f32,
    pub(crate) max: f32,
    pub(crate) min_normal: Option<f32>,
    pub(crate) values: u64,
    pub(crate) infinity: bool,
    pub(crate) nan: bool,
    pub(crate) minus_zero: bool,
}

impl Extent {
    /// Of a format whose values are whole numbers of steps, every code a number.
    pub(crate) fn of_steps(min: f32, max: f32) -> Self {
        Self {
            min,
            max,
            min_normal: None,
            values: 0,
            infinity: false,
            nan: false,
            minus_zero: false,
        }
    }

    /// Of a format with so many listed values.
    pub(crate) fn of_list(values: usize, min: f32, max: f32) -> Self {
        Self {
            values: values as u64,
            ..Self::of_steps(min, max)
        }
    }
}

impl Facts {
    /// Completes the facts by rounding the numbers just above 0 and 1 up.
    pub(crate) fn new(format: &impl ScalarFormat, extent: Extent) -> Self {
        let up = |x: f32| format.grid().round(x, Rounding::Up, 0);
        let positive = |value: &f32| *value > 0.0 && *value <= extent.max;
        let min_positive = Some(up(f32::from_bits(1))).filter(positive);
        let above_one = up(1f32.next_up());
        let has_one = up(1.0) == 1.0 && above_one > 1.0 && above_one <= extent.max;
        let range = min_positive.map(|min| f64::from(extent.max) / f64::from(min));
        Self {
            bits: format.bits(),
            min: extent.min,
            max: extent.max,
            min_normal: extent.min_normal,
            min_positive,
            epsilon: has_one.then_some(above_one - 1.0),
            range_decades: range.map(f64::log10),
            range_bits: range.map(f64::log2),
            values: extent.values,
            infinity: extent.infinity,
            nan: extent.nan,
            minus_zero: extent.minus_zero,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::format::Format;

    /// OCP 8-bit floating point specification, revision 1.0, table 2, and IEEE 754-2019, table
    /// 3.5; counts by hand: e4m3 has 256 codes, two of them NaN and two zeros.
    #[test]
    fn facts_of_known_formats() {
        let facts = |text: &str| text.parse::<Format>().unwrap().facts();
        let e4m3 = facts("e4m3");
        assert_eq!((e4m3.bits, e4m3.max, e4m3.min), (8, 448.0, -448.0));
        assert_eq!(e4m3.min_normal, Some(0.015_625));
        assert_eq!(e4m3.min_positive, Some(0.001_953_125));
        assert_eq!(e4m3.epsilon, Some(0.125));
        assert_eq!(e4m3.values, 253);
        assert!(!e4m3.infinity && e4m3.nan && e4m3.minus_zero);
        // 448 / 2^-9 = 229376 = 10^5.3605 = 2^17.807.
        assert!((e4m3.range_decades.unwrap() - 5.3605).abs() < 1e-3);
        assert!((e4m3.range_bits.unwrap() - 17.807).abs() < 1e-3);
        let e5m2 = facts("e5m2");
        // 256 codes, 6 of them NaN and two zeros.
        assert_eq!((e5m2.values, e5m2.infinity), (249, true));
        assert_eq!(facts("fp32").epsilon, Some(f32::EPSILON));
        assert_eq!(facts("fp32").min_positive, Some(f32::from_bits(1)));
        assert_eq!(facts("e4m3fnuz").values, 255);
        assert_eq!(facts("e2m1").values, 15);
        // Without subnormals e4m3 loses seven magnitudes.
        assert_eq!(facts("float(4,3,fn,flush)").values, 239);
        let fixed = facts("fixed(8,6)");
        assert_eq!((fixed.min, fixed.max), (-2.0, 1.984_375));
        assert_eq!((fixed.min_positive, fixed.values), (Some(0.015_625), 256));
        assert_eq!(fixed.epsilon, Some(0.015_625));
        assert_eq!(facts("fixed(8,8)").epsilon, None);
        assert_eq!(facts("int8(narrow)").values, 255);
        assert_eq!(facts("int1").min_positive, None);
        assert_eq!(facts("unit(4)").min_positive, Some(1.0 / 15.0));
    }
}
