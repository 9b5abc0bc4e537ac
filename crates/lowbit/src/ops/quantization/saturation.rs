//! The step of a sum over integers, and sums in a register of a given width.

use burn::tensor::{Device, Tensor};
use lowbit_formats::{Rounding, bits_of};

use crate::ops::quantization::Quantization;
use crate::ops::quantization::pointwise::{Pointwise, Quantize};
use crate::ops::quantization::threshold::TrainedThreshold;

/// The power of two that a sum is an integer times, and how large the integer can be.
///
/// Where weight and input are integers times powers of two, `w = k_w s_w` and `x = k_x s_x`, each
/// product and each sum is an integer times `s = s_w s_x` (the fraction bits of the sum are the
/// weight's plus the input's). In a sum of distances `|x - w|` the step is the smaller one of `s_w`
/// and `s_x`.
#[derive(Debug, Clone)]
pub struct SumStep {
    log2: i32,
    /// What is added to `log2`: `[1]` or one per output channel.
    trained: Option<Tensor<1>>,
    /// Bits that hold every sum; none for distances, which are not counted.
    needed: Option<u32>,
}

impl SumStep {
    /// The step of a sum of `terms` products; `None` if an operand is not on integers times a power
    /// of two.
    pub fn of_products(input: &Quantization, weight: &Quantization, terms: usize) -> Option<Self> {
        let (input, weight) = (input.steps()?, weight.steps()?);
        let (least, greatest) = input.range.sum_of_products(&weight.range, terms);
        let trained = match (input.trained, weight.trained) {
            (Some(input), Some(weight)) => Some(input + weight),
            (input, weight) => input.or(weight),
        };
        Some(Self {
            log2: input.range.exponent + weight.range.exponent,
            trained,
            needed: Some(bits_of(least, greatest)),
        })
    }

    /// The step of a sum of distances `|x - w|`; `None` if an operand is not on integers times a
    /// power of two.
    pub fn of_distances(input: &Quantization, weight: &Quantization) -> Option<Self> {
        let (input, weight) = (input.steps()?, weight.steps()?);
        let (log2, trained) = match (input.trained, weight.trained) {
            (None, None) => (input.range.exponent.min(weight.range.exponent), None),
            (Some(trained), None) => (0, Some(trained.clamp_max(weight.range.exponent))),
            (None, Some(trained)) => (0, Some(trained.clamp_max(input.range.exponent))),
            (Some(input), Some(weight)) => {
                let channels = weight.dims();
                (0, Some(input.expand(channels).min_pair(weight)))
            }
        };
        Some(Self {
            log2,
            trained,
            needed: None,
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

    /// Base-2 logarithm of the step, plus `bits`: `[1]` or one per output channel. No gradient
    /// goes through it.
    pub(crate) fn log2_plus(&self, bits: u32, device: &Device) -> Tensor<1> {
        let fixed = self.log2 as f32 + bits as f32;
        match &self.trained {
            Some(trained) => trained.clone() + fixed,
            None => Tensor::ones([1], device) * fixed,
        }
    }

    /// The exponents of the step: one, or one per output channel.
    pub(crate) fn exponents(&self) -> Vec<i32> {
        let log2 = self.log2_plus(0, &Device::flex());
        log2.into_data().iter::<f32>().map(|e| e as i32).collect()
    }
}

/// The limits of a sum over integers.
///
/// A register of `n` bits holds `-2^(n-1) s` to `(2^(n-1) - 1) s`, with the step `s` of the sum;
/// sums beyond it saturate. The gradient passes where the sum fits, and is zero where it saturated.
/// The limits themselves get no gradient. A bias is added afterwards.
///
/// The sum itself is computed in f32 and is exact as long as every partial sum is below `2^24` in
/// magnitude, in units of `s`, so for registers up to 25 bits in any order of summation, and
/// beyond that where the weights keep the sums that small; otherwise its last bits are rounded. It
/// is the complete sum that saturates, not each partial one.
#[derive(Debug, Clone)]
pub struct Saturation {
    step: SumStep,
    bits: u32,
}

impl Saturation {
    /// The limits of a sum with that step in `bits` bits (2 to 64); `None` if no sum is beyond them.
    pub fn new(step: SumStep, bits: u32) -> Option<Self> {
        let is_enough = step.needed.is_some_and(|needed| needed <= bits);
        (!is_enough).then_some(Self { step, bits })
    }

    /// The saturated sum. `axis` is the dimension of the output channels, along which a weight may
    /// have several steps.
    pub fn apply<const D: usize>(&self, sum: Tensor<D>, axis: usize) -> Tensor<D> {
        let device = sum.device();
        // Sums are on the grid already, so that rounding to it only limits them.
        let log2_threshold = self.step.log2_plus(self.bits - 1, &device);
        let method = TrainedThreshold {
            bits: self.bits,
            ties: Rounding::NearestEven,
        };
        let signed = Tensor::ones([1], &device);
        Quantize { method, axis }.unchecked(sum, vec![log2_threshold, signed])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::ops::quantization::format::ClampedGradient;

    /// Steps 2^-6 and 1, five bits: -16/64 to 15/64.
    #[test]
    fn sums_saturate_and_stop_the_gradient() {
        let quantization = |text: &str| Quantization::Format {
            format: text.parse().unwrap(),
            rounding: Rounding::NearestEven,
            clamped: ClampedGradient::Pass,
        };
        let step =
            SumStep::of_products(&quantization("fixed(8,6)"), &quantization("int4"), 1).unwrap();
        assert_eq!(step.exponents(), [-6]);
        let saturation = Saturation::new(step.clone(), 5).unwrap();
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
        let wide = |bits| Saturation::new(step.clone(), bits);
        assert!(wide(11).is_some() && wide(12).is_none());
    }
}
