//! A tensor on its way into an operator, with how it is to be quantized there.

mod affine;
mod clip;
mod dorefa;
mod format;
mod gradient;
pub(crate) mod grid;
mod learned_step;
mod learned_width;
mod levels;
mod offset_step;
pub(crate) mod operand;
pub(crate) mod pointwise;
mod saturation;
mod scaled_fixed;
mod scaled_format;
pub(crate) mod shift;
mod sign;
mod statistics;
mod ternary;
mod threshold;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use lowbit_formats::{Format, Rounding};

use crate::ops::backend::capture::RecordedOperator;
use crate::ops::backend::operator::Kernels;
pub(crate) use dorefa::DorefaWeight;
pub(crate) use gradient::QuantizeGradient;
use grid::ValueGrid;
use operand::{OperandGradients, operand_quantizations};
use pointwise::{Pointwise, Prepared, Quantize, Steps, Sums};
use threshold::TrainedThreshold;

pub use affine::affine;
pub use clip::learned_clip;
pub use dorefa::{DorefaReading, dorefa_weight, dorefa_weight_as};
pub use format::{ClampedGradient, fake_quantize};
pub(crate) use format::{FakeQuantize, PreparedFormat, has_all_integers};
pub use gradient::{
    GradientFunction, GradientHook, GradientQuantization, GradientRange, TwoWay, quantize_gradient,
    quantize_two_ways,
};
pub use learned_step::learned_step;
pub use learned_width::learned_width;
pub use levels::even_levels;
pub use offset_step::offset_step;
pub use operand::Operand;
pub use saturation::{Saturation, SumStep};
pub use scaled_fixed::scaled_fixed;
pub use scaled_format::{Line, scaled_format};
pub use shift::LargestPower;
pub use sign::{scaled_sign, sign};
pub use statistics::{count_rows, min_max};
pub use ternary::{TernaryGradient, ternary};
pub use threshold::trained_threshold;

// A further method is its own file, a line here, a variant below and what `parts` makes of it.
operand_quantizations! {
    Format(FakeQuantize),
    TrainedThreshold(Quantize<TrainedThreshold, 1>),
    LearnedStep(Quantize<learned_step::LearnedStep, 1>),
    OffsetStep(Quantize<offset_step::OffsetStep, 2>),
    LearnedClip(Quantize<clip::LearnedClip, 1>),
    EvenLevels(Quantize<levels::EvenLevels, 0>),
    Affine(Quantize<affine::Affine, 0>),
    Sign(Quantize<sign::Sign, 0>),
    ScaledSign(Quantize<sign::ScaledSign, 0>),
    Ternary(Quantize<ternary::Ternary, 2>),
    ScaledFormat(scaled_format::ScaledFormat),
    LearnedWidth(Quantize<learned_width::LearnedWidth, 2>),
    ScaledFixed(Quantize<scaled_fixed::ScaledFixed, 0>),
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
        /// To nearest, ties to even or up.
        ties: Rounding,
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
    /// To multiples of a learned step from a learned offset; see [`offset_step`](offset_step()).
    OffsetStep {
        /// The step, `[1]` or one per index of `axis`.
        step: Tensor<1>,
        /// The offset, of the same shape.
        offset: Tensor<1>,
        /// The least and the greatest integer.
        limits: (i32, i32),
        /// What the gradients of both are multiplied by.
        gradient_scale: f32,
        /// The dimension with one step per index, where there are several.
        axis: usize,
    },
    /// To values from 0 to a learned clip; see [`learned_clip`](learned_clip()).
    LearnedClip {
        /// The clip, `[1]`.
        clip: Tensor<1>,
        /// Bits of the result.
        bits: u32,
    },
    /// To values in even steps between two ends; see [`even_levels`](even_levels()).
    EvenLevels {
        /// The upper end, `[1]` or one per index of `axis`.
        end: Tensor<1>,
        /// Steps from the lower end to the upper.
        steps: u32,
        /// The gradient where a number is clipped.
        clamped: ClampedGradient,
        /// The dimension with one end per index, where there are several.
        axis: usize,
    },
    /// To affine integers; see [`affine`](affine()).
    Affine {
        /// The scale, `[1]` or one per index of `axis`.
        scale: Tensor<1>,
        /// The zero point, of the same shape.
        zero_point: Tensor<1>,
        /// The least and the greatest integer.
        limits: (i32, i32),
        /// The gradient where the integer is not within them.
        clamped: ClampedGradient,
        /// The dimension with one scale per index, where there are several.
        axis: usize,
    },
    /// To fixed point on the unit interval, times a power of two; see
    /// [`scaled_fixed`](scaled_fixed()).
    ScaledFixed {
        /// Bits of the integers, sign included.
        bits: u32,
        /// The exponent of the power.
        log2: i32,
    },
    /// To 1 and -1; see [`sign`](sign()).
    Sign,
    /// To a scale and its opposite; see [`scaled_sign`](scaled_sign()).
    ScaledSign {
        /// The scale, `[1]` or one per index of `axis`.
        scale: Tensor<1>,
        /// The part of the gradient that goes through the scale; none lets it pass as it is.
        through_scale: Option<f32>,
        /// The dimension with one scale per index, where there are several.
        axis: usize,
    },
    /// To three values; see [`ternary`](ternary()).
    Ternary {
        /// Positive value, negative value and threshold, `[1]` each or one per index of `axis`.
        parameters: [Tensor<1>; 3],
        /// The gradient to what is quantized.
        gradient: TernaryGradient,
        /// The dimension with one of each per index, where there are several.
        axis: usize,
    },
    /// To the values of a format times a learned scale; see [`scaled_format`](scaled_format()).
    ScaledFormat {
        /// The scale, `[1]`.
        scale: Tensor<1>,
        /// The format.
        format: Format,
        /// What is done to a number first.
        line: Line,
        /// The gradient where a number is clipped.
        clamped: ClampedGradient,
    },
    /// To fixed point with learned bits; see [`learned_width`](learned_width()).
    LearnedWidth {
        /// The bits after the point, `[1]` or one per index of `axis`.
        fraction_bits: Tensor<1>,
        /// The bits before it, of the same shape.
        integer_bits: Tensor<1>,
        /// 1.0 for signed values, 0.0 for unsigned, `[1]`.
        signed: Tensor<1>,
        /// The dimension with a width per index, where there are several.
        axis: usize,
    },
    /// DoReFa-Net's weights; see [`dorefa_weight_as`](dorefa_weight_as()).
    DorefaWeight {
        /// Bits of the result.
        bits: u32,
        /// How equation 9 is read.
        reading: DorefaReading,
    },
}

impl OperandQuantization {
    /// Whether what comes out is bfloat16.
    pub(crate) fn is_bfloat16(&self) -> bool {
        matches!(self, Self::Format(quantize) if format::is_bfloat16(&quantize.format))
    }
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
                ties,
                axis,
            } => {
                let least = step.log2_plus(bits, &signed.device()) - signed.clone();
                let channels = [least.dims()[0].max(log2_threshold.dims()[0])];
                let log2_threshold = log2_threshold.expand(channels);
                Self::TrainedThreshold {
                    log2_threshold: log2_threshold.max_pair(least.expand(channels)),
                    signed,
                    bits,
                    ties,
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
                ties,
                axis,
            } => {
                let method = TrainedThreshold { bits, ties };
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
            Self::DorefaWeight { bits, reading } => return Err(DorefaWeight { bits, reading }),
            other => return Ok(other.more_parts()),
        })
    }

    /// The rest of them.
    fn more_parts(self) -> (OperandQuantization, Vec<Tensor<1>>) {
        use OperandQuantization as To;
        match self {
            Self::OffsetStep {
                step,
                offset,
                limits,
                gradient_scale,
                axis,
            } => {
                let method = offset_step::OffsetStep {
                    limits,
                    gradient_scale,
                };
                (
                    To::OffsetStep(Quantize { method, axis }),
                    vec![step, offset],
                )
            }
            Self::LearnedClip { clip, bits } => {
                let method = clip::LearnedClip { bits };
                (To::LearnedClip(Quantize { method, axis: 0 }), vec![clip])
            }
            Self::EvenLevels {
                end,
                steps,
                clamped,
                axis,
            } => {
                let method = levels::EvenLevels { steps, clamped };
                (To::EvenLevels(Quantize { method, axis }), vec![end])
            }
            Self::Affine {
                scale,
                zero_point,
                limits,
                clamped,
                axis,
            } => {
                let method = affine::Affine { limits, clamped };
                (
                    To::Affine(Quantize { method, axis }),
                    vec![scale, zero_point],
                )
            }
            Self::ScaledFixed { bits, log2 } => {
                let method = scaled_fixed::ScaledFixed { bits, log2 };
                (To::ScaledFixed(Quantize { method, axis: 0 }), Vec::new())
            }
            Self::Sign => {
                let method = sign::Sign;
                (To::Sign(Quantize { method, axis: 0 }), Vec::new())
            }
            Self::ScaledSign {
                scale,
                through_scale,
                axis,
            } => {
                let method = sign::ScaledSign { through_scale };
                (To::ScaledSign(Quantize { method, axis }), vec![scale])
            }
            Self::Ternary {
                parameters,
                gradient,
                axis,
            } => {
                let method = ternary::Ternary { gradient };
                (To::Ternary(Quantize { method, axis }), parameters.into())
            }
            Self::ScaledFormat {
                scale,
                format,
                line,
                clamped,
            } => {
                let quantize = scaled_format::ScaledFormat {
                    format,
                    line,
                    clamped,
                };
                (To::ScaledFormat(quantize), vec![scale])
            }
            Self::LearnedWidth {
                fraction_bits,
                integer_bits,
                signed,
                axis,
            } => {
                let method = learned_width::LearnedWidth;
                let parameters = vec![fraction_bits, integer_bits, signed];
                (To::LearnedWidth(Quantize { method, axis }), parameters)
            }
            Self::Format { .. }
            | Self::TrainedThreshold { .. }
            | Self::LearnedStep { .. }
            | Self::DorefaWeight { .. } => unreachable!("they are done"),
        }
    }

    /// The step and the integers of its results, if they are integers times a power of two.
    fn steps(&self) -> Option<Steps> {
        let (quantization, parameters) = self.clone().parts().ok()?;
        quantization.steps(&parameters)
    }
}
