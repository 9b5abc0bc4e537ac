//! Sums of products in a register of a given width.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use lowbit_formats::Format;

use crate::ops::quantization::Quantization;
use crate::ops::quantization::threshold::TrainedThresholdOp;

/// The exponents that a threshold's step is held to, so that step and inverse are normal floats.
const EXPONENTS: (f32, f32) = (-126.0, 126.0);

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
struct Steps {
    /// The exponent of the step, less what `trained` adds to it.
    log2_step: i32,
    /// `[1]` or `[channels]`.
    trained: Option<Tensor<1>>,
    min: i64,
    max: i64,
}

impl Steps {
    fn of(quantization: &Quantization) -> Option<Self> {
        match quantization {
            Quantization::TrainedThreshold {
                log2_threshold,
                signed,
                bits,
                ..
            } => {
                let magnitude_bits = signed.clone().detach().neg() + *bits;
                let log2_step = log2_threshold.clone().detach().ceil() - magnitude_bits;
                Some(Self {
                    log2_step: 0,
                    trained: Some(log2_step.clamp(EXPONENTS.0, EXPONENTS.1)),
                    min: -(1 << (bits - 1)),
                    max: (1 << bits) - 1,
                })
            }
            Quantization::Format { format, .. } => {
                let grid = IntegerGrid::of(format)?;
                Some(Self {
                    log2_step: grid.log2_step,
                    trained: None,
                    min: grid.min,
                    max: grid.max,
                })
            }
            Quantization::DorefaWeight { .. } => None,
        }
    }
}

/// The limits of a sum over integers.
///
/// Where weight and input are integers times powers of two, `w = k_w s_w` and `x = k_x s_x`, each
/// product and each sum is an integer times `s = s_w s_x` (the fraction bits of the sum are the
/// weight's plus the input's). A register of `n` bits holds `-2^(n-1) s` to `(2^(n-1) - 1) s`; sums
/// beyond it saturate. The gradient passes where the sum fits, and is zero where it saturated. The
/// limits themselves get no gradient. A bias is added afterwards.
///
/// In a sum of distances `|x - w|` the step is the smaller one of `s_w` and `s_x`.
///
/// The sum itself is computed in f32 and is exact as long as every partial sum is below `2^24` in
/// magnitude, in units of `s`, so for registers up to 25 bits in any order of summation, and
/// beyond that where the weights keep the sums that small; otherwise its last bits are rounded. It
/// is the complete sum that saturates, not each partial one.
#[derive(Debug, Clone)]
pub struct Saturation {
    log2_step: i32,
    /// What is added to `log2_step`.
    trained: Option<Tensor<1>>,
    bits: u32,
}

impl Saturation {
    /// The limits of a sum of `terms` products in `bits` bits (2 to 64); `None` if an operand is
    /// not on integers times a power of two, or if no sum of so many products is beyond them.
    pub fn of_products(
        input: &Quantization,
        weight: &Quantization,
        terms: usize,
        bits: u32,
    ) -> Option<Self> {
        let (input, weight) = (Steps::of(input)?, Steps::of(weight)?);
        let (least, greatest) = sum_limits((input.min, input.max), (weight.min, weight.max), terms);
        if bits_of(least, greatest) <= bits {
            return None;
        }
        let trained = match (input.trained, weight.trained) {
            (Some(input), Some(weight)) => Some(input + weight),
            (input, weight) => input.or(weight),
        };
        Some(Self {
            log2_step: input.log2_step + weight.log2_step,
            trained,
            bits,
        })
    }

    /// The limits of a sum of distances `|x - w|` in `bits` bits (2 to 64), whose step is the
    /// smaller one of the two; `None` if an operand is not on integers times a power of two.
    pub fn of_distances(input: &Quantization, weight: &Quantization, bits: u32) -> Option<Self> {
        let (input, weight) = (Steps::of(input)?, Steps::of(weight)?);
        let fixed = Self {
            log2_step: input.log2_step.min(weight.log2_step),
            trained: None,
            bits,
        };
        let trained = match (input.trained, weight.trained) {
            (None, None) => return Some(fixed),
            (Some(trained), None) => trained.clamp_max(weight.log2_step),
            (None, Some(trained)) => trained.clamp_max(input.log2_step),
            (Some(input), Some(weight)) => {
                let channels = weight.dims();
                input.expand(channels).min_pair(weight)
            }
        };
        Some(Self {
            log2_step: 0,
            trained: Some(trained),
            bits,
        })
    }

    /// The same for a result whose channels are the weight's, `times` over, as in the groups of a
    /// transposed convolution.
    pub fn repeated(self, times: usize) -> Self {
        let several = |trained: &Tensor<1>| trained.dims()[0] > 1;
        Self {
            trained: self.trained.map(|trained| match several(&trained) {
                true => trained.repeat(&[times]),
                false => trained,
            }),
            ..self
        }
    }

    /// The saturated sum. `axis` is the dimension of the output channels, along which a weight may
    /// have several steps.
    pub fn apply<const D: usize>(&self, sum: Tensor<D>, axis: usize) -> Tensor<D> {
        let ones = Tensor::<1>::ones([1], &sum.device());
        // Sums are on the grid already, so that rounding to it only limits them.
        let exponent = self.log2_step as f32 + (self.bits - 1) as f32;
        let log2_threshold = match &self.trained {
            Some(trained) => trained.clone() + exponent,
            None => ones.clone() * exponent,
        };
        Tensor::from_dispatch(<Dispatch as TrainedThresholdOp>::trained_threshold(
            sum.into_dispatch(),
            log2_threshold.into_dispatch(),
            ones.into_dispatch(),
            self.bits,
            axis,
        ))
    }
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
    use burn::tensor::Device;
    use lowbit_formats::Rounding;

    use crate::ops::quantization::format::ClampedGradient;

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

    /// Steps 2^-6 and 1, five bits: -16/64 to 15/64.
    #[test]
    fn sums_saturate_and_stop_the_gradient() {
        let quantization = |text: &str| Quantization::Format {
            format: text.parse().unwrap(),
            rounding: Rounding::NearestEven,
            clamped: ClampedGradient::Pass,
        };
        let saturation =
            Saturation::of_products(&quantization("fixed(8,6)"), &quantization("int4"), 1, 5)
                .unwrap();
        let device = Device::flex().autodiff();
        let sums = [-17.0, -16.0, -0.5, 15.0, 16.0, 900.0].map(|k: f32| k / 64.0);
        let sums = Tensor::<1>::from_floats(sums, &device).require_grad();
        let saturated = saturation.apply(sums.clone(), 0);
        let values: Vec<f32> = saturated.clone().into_data().iter::<f32>().collect();
        // Half a step is not a sum of products; were there one, it would be rounded.
        let expected = [-16.0, -16.0, 0.0, 15.0, 15.0, 15.0].map(|k: f32| k / 64.0);
        assert_eq!(values, expected);
        let grads = saturated.sum().backward();
        let grad: Vec<f32> = sums.grad(&grads).unwrap().into_data().iter().collect();
        assert_eq!(grad, [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        // 8 by 4 bits are at most 12 bits wide.
        let wide = |bits| {
            Saturation::of_products(&quantization("fixed(8,6)"), &quantization("int4"), 1, bits)
        };
        assert!(wide(11).is_some() && wide(12).is_none());
    }
}
