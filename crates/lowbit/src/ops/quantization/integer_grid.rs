//! Integers times a power of two, and sums of their products.

use burn::tensor::Tensor;
use lowbit_formats::Format;

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
    /// The grid that holds all values of a format: fixed point, integers, powers of two and tables
    /// whose values are multiples of their smallest one, a power of two, with integers below 2^62.
    /// `None` for others.
    pub fn of(format: &Format) -> Option<Self> {
        match format {
            Format::Fixed(fixed) => {
                let (min, max) = fixed.steps();
                Some(Self {
                    log2_step: -i32::from(fixed.fraction()),
                    min,
                    max,
                })
            }
            Format::Integer(integer) => {
                let (min, max) = integer.limits();
                Some(Self {
                    log2_step: 0,
                    min,
                    max,
                })
            }
            Format::PowerOfTwo(powers) => Self::of_values(&powers.values()),
            Format::Codebook(table) => Self::of_values(table.values()),
            _ => None,
        }
    }

    fn of_values(values: &[f32]) -> Option<Self> {
        let magnitudes = || {
            values
                .iter()
                .map(|v| f64::from(v.abs()))
                .filter(|v| *v > 0.0)
        };
        let step = magnitudes().reduce(f64::min)?;
        let log2_step = step.log2();
        let integers: Vec<f64> = values.iter().map(|&v| f64::from(v) / step).collect();
        let fits = |k: &f64| k.fract() == 0.0 && k.abs() < 2f64.powi(62);
        if log2_step.fract() != 0.0 || !integers.iter().all(fits) {
            return None;
        }
        let extreme = |choose: fn(f64, f64) -> f64| integers.iter().copied().fold(0.0, choose);
        Some(Self {
            log2_step: log2_step as i32,
            min: extreme(f64::min) as i64,
            max: extreme(f64::max) as i64,
        })
    }
}

/// A power-of-two step and the integers on it, as far as they are known without reading a tensor.
pub(crate) struct Steps {
    /// The exponent of the step, less what `trained` adds to it.
    pub(crate) log2_step: i32,
    /// `[1]` or `[channels]`.
    pub(crate) trained: Option<Tensor<1>>,
    pub(crate) min: i64,
    pub(crate) max: i64,
}

/// The least and the greatest sum of `terms` products of integers within the given limits, which
/// are also limits of every partial sum if both contain zero.
pub fn sum_limits(a: (i64, i64), b: (i64, i64), terms: usize) -> (i128, i128) {
    let products = [a.0, a.1].map(|x| [b.0, b.1].map(|y| i128::from(x) * i128::from(y)));
    let products = products.into_iter().flatten();
    let least = products.clone().fold(0, i128::min);
    let greatest = products.fold(0, i128::max);
    let terms = terms as i128;
    (least.saturating_mul(terms), greatest.saturating_mul(terms))
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
