//! Sums of products in a register of a given width.

use burn::tensor::Tensor;
use lowbit_formats::bits_of;

use crate::ops::quantization::Quantization;
use crate::ops::quantization::pointwise::{Pointwise, Quantize};
use crate::ops::quantization::threshold::TrainedThreshold;

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
        let (input, weight) = (input.steps()?, weight.steps()?);
        let (least, greatest) = input.range.sum_of_products(&weight.range, terms);
        if bits_of(least, greatest) <= bits {
            return None;
        }
        let trained = match (input.trained, weight.trained) {
            (Some(input), Some(weight)) => Some(input + weight),
            (input, weight) => input.or(weight),
        };
        Some(Self {
            log2_step: input.range.exponent + weight.range.exponent,
            trained,
            bits,
        })
    }

    /// The limits of a sum of distances `|x - w|` in `bits` bits (2 to 64), whose step is the
    /// smaller one of the two; `None` if an operand is not on integers times a power of two.
    pub fn of_distances(input: &Quantization, weight: &Quantization, bits: u32) -> Option<Self> {
        let (input, weight) = (input.steps()?, weight.steps()?);
        let fixed = Self {
            log2_step: input.range.exponent.min(weight.range.exponent),
            trained: None,
            bits,
        };
        let trained = match (input.trained, weight.trained) {
            (None, None) => return Some(fixed),
            (Some(trained), None) => trained.clamp_max(weight.range.exponent),
            (None, Some(trained)) => trained.clamp_max(input.range.exponent),
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
        let method = TrainedThreshold { bits: self.bits };
        Quantize { method, axis }.unchecked(sum, vec![log2_threshold, ones])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use lowbit_formats::Rounding;

    use crate::ops::quantization::format::ClampedGradient;

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
