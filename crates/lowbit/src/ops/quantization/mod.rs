//! A tensor on its way into an operator, with how it is to be quantized there.

mod dorefa;
mod format;
mod gradient;
mod learned_step;
pub(crate) mod operand;
pub(crate) mod pointwise;
mod saturation;
mod threshold;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use lowbit_formats::{Format, Rounding};

use crate::ops::backend::operator::Kernels;
use dorefa::DorefaWeight;
use format::FakeQuantize;
use operand::{OperandGradients, operand_quantizations};
use pointwise::{Pointwise, Prepared, Quantize, Steps, Sums};
use threshold::TrainedThreshold;

pub use dorefa::dorefa_weight;
pub use format::{ClampedGradient, fake_quantize};
pub use gradient::{
    GradientFunction, GradientHook, GradientQuantization, TwoWay, quantize_gradient,
    quantize_two_ways,
};
pub use learned_step::learned_step;
pub use operand::Operand;
pub use saturation::{Saturation, SumStep};
pub use threshold::trained_threshold;

// A further method is its own file, a line here, a variant below and what `parts` makes of it.
operand_quantizations! {
    Format(FakeQuantize),
    TrainedThreshold(Quantize<TrainedThreshold, 1>),
    LearnedStep(Quantize<learned_step::LearnedStep, 1>),
}

/// How an operator quantizes one of its operands: what to round to, and where the gradient goes.
///
/// Everything here is a number or a plain tensor with a stated meaning, so that an operator can
/// round while it reads the operand, and a captured graph can be read back as integers.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one call, and boxing its tensors would cost an allocation each"
)]
pub enum Quantization {
    /// To the nearest value of a format; see [`fake_quantize`](fake_quantize()).
    Format {
        /// The format.
        format: Format,
        /// How a number between two values of the format is rounded.
        rounding: Rounding,
        /// The gradient outside the format's range.
        clamped: ClampedGradient,
    },
    /// To integers times a trained power of two; see
    /// [`trained_threshold`](trained_threshold()).
    TrainedThreshold {
        /// Base-2 logarithm of the threshold, `[1]` or one per index of `axis`.
        log2_threshold: Tensor<1>,
        /// 1.0 for signed integers, 0.0 for unsigned, `[1]`.
        signed: Tensor<1>,
        /// Bits of the integers, sign included.
        bits: u32,
        /// The dimension with one threshold per index, where there are several.
        axis: usize,
    },
    /// To multiples of a learned step; see [`learned_step`](learned_step()).
    LearnedStep {
        /// The step, `[1]` or one per index of `axis`.
        step: Tensor<1>,
        /// 1.0 for signed integers, 0.0 for unsigned, `[1]`.
        signed: Tensor<1>,
        /// Bits of the integers, sign included.
        bits: u32,
        /// What the step's gradient is multiplied by.
        gradient_scale: f32,
        /// The dimension with one step per index, where there are several.
        axis: usize,
    },
    /// DoReFa-Net's weights; see [`dorefa_weight`](dorefa_weight()).
    DorefaWeight {
        /// Bits of the result.
        bits: u32,
    },
}

impl Quantization {
    /// The quantized tensor.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self.parts() {
            Ok((quantization, parameters)) => quantization.apply(x, parameters),
            Err(of_weights) => of_weights.apply(x),
        }
    }

    /// The same with no finer a step than that of a sum to which the result is added, so that both
    /// together are an integer of the sum. Only the step of a trained threshold changes; where it
    /// does, the threshold gets no gradient.
    pub(crate) fn no_finer_than(self, step: &SumStep) -> Self {
        match self {
            Self::TrainedThreshold {
                log2_threshold,
                signed,
                bits,
                axis,
            } => {
                let least = step.log2_plus(bits, &signed.device()) - signed.clone();
                let channels = [least.dims()[0].max(log2_threshold.dims()[0])];
                let log2_threshold = log2_threshold.expand(channels);
                Self::TrainedThreshold {
                    log2_threshold: log2_threshold.max_pair(least.expand(channels)),
                    signed,
                    bits,
                    axis,
                }
            }
            other => other,
        }
    }

    /// The numbers, and the tensors with what is learned first; or the one method that looks at the
    /// whole tensor.
    fn parts(self) -> Result<(OperandQuantization, Vec<Tensor<1>>), DorefaWeight> {
        Ok(match self {
            Self::Format {
                format,
                rounding,
                clamped,
            } => {
                let quantize = FakeQuantize {
                    format,
                    rounding,
                    clamped,
                };
                (OperandQuantization::Format(quantize), Vec::new())
            }
            Self::TrainedThreshold {
                log2_threshold,
                signed,
                bits,
                axis,
            } => {
                let method = TrainedThreshold { bits };
                let quantize = OperandQuantization::TrainedThreshold(Quantize { method, axis });
                (quantize, vec![log2_threshold, signed])
            }
            Self::LearnedStep {
                step,
                signed,
                bits,
                gradient_scale,
                axis,
            } => {
                let method = learned_step::LearnedStep {
                    bits,
                    gradient_scale,
                };
                let quantize = OperandQuantization::LearnedStep(Quantize { method, axis });
                (quantize, vec![step, signed])
            }
            Self::DorefaWeight { bits } => return Err(DorefaWeight { bits }),
        })
    }

    /// The step and the integers of its results, if they are integers times a power of two.
    fn steps(&self) -> Option<Steps> {
        let (quantization, parameters) = self.clone().parts().ok()?;
        quantization.steps(&parameters)
    }
}
