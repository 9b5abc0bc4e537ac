//! Integers times a power of two, and sums of their products, as `lowbit_formats` knows them.

use burn::tensor::Tensor;
use lowbit_formats::{Format, IntegerRange};

pub use lowbit_formats::bits_of;

/// Integers times a power of two, `k * 2^log2_step` with `min <= k <= max`: what integer hardware
/// can hold of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegerGrid {
    /// Exponent of the step.
    pub log2_step: i32,
    /// The least integer.
    pub min: i64,
    /// The greatest integer.
    pub max: i64,
}

impl IntegerGrid {
    /// The grid that holds all values of a format, see [`Format::integer_range`]; `None` if there is
    /// none.
    pub fn of(format: &Format) -> Option<Self> {
        let range = format.integer_range()?;
        Some(Self {
            log2_step: range.exponent,
            min: i64::try_from(range.min).ok()?,
            max: i64::try_from(range.max).ok()?,
        })
    }
}

/// A power-of-two step and the integers on it, as far as they are known without reading a tensor.
pub(crate) struct Steps {
    /// The integers, and the exponent of the step less what `trained` adds to it.
    pub(crate) range: IntegerRange,
    /// `[1]` or `[channels]`.
    pub(crate) trained: Option<Tensor<1>>,
}

/// The least and the greatest sum of `terms` products of integers within the given limits, which
/// are also limits of every partial sum if both contain zero.
pub fn sum_limits(a: (i64, i64), b: (i64, i64), terms: usize) -> (i128, i128) {
    let range = |(min, max): (i64, i64)| IntegerRange {
        exponent: 0,
        min: min.into(),
        max: max.into(),
    };
    range(a).sum_of_products(&range(b), terms)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let limits = sum_limits((0, 255), (-128, 127), 9);
        assert_eq!(limits, (-293_760, 291_465));
        assert_eq!(bits_of(limits.0, limits.1), 20);
    }

    #[test]
    fn integer_grids_of_formats() {
        let grid = |text: &str| {
            let grid = IntegerGrid::of(&text.parse().unwrap())?;
            Some((grid.log2_step, grid.min, grid.max))
        };
        assert_eq!(grid("fixed(8,6)"), Some((-6, -128, 127)));
        assert_eq!(grid("ufixed(8,8)"), Some((-8, 0, 255)));
        assert_eq!(grid("int4"), Some((0, -8, 7)));
        // 0 and +-2^-2, 2^-1, 1.
        assert_eq!(grid("pot(3)"), Some((-2, -4, 4)));
        assert_eq!(grid("ternary"), Some((0, -1, 1)));
        assert_eq!(grid("nf4"), None);
        assert_eq!(grid("e4m3"), None);
        assert_eq!(grid("unit(4)"), None);
    }
}
