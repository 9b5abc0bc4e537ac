//! A tensor on its way into an operator, with how it is to be quantized there.

pub(crate) mod composed;
mod dorefa;
pub(crate) mod format;
pub(crate) mod reading;
mod saturation;
pub(crate) mod threshold;

use burn::tensor::Tensor;
use lowbit_formats::{Format, Rounding};

pub use dorefa::dorefa_weight;
pub use format::{ClampedGradient, fake_quantize};
pub use saturation::{IntegerGrid, Saturation, bits_of, sum_limits};
pub use threshold::trained_threshold;

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
    /// DoReFa-Net's weights; see [`dorefa_weight`](dorefa_weight()).
    DorefaWeight {
        /// Bits of the result.
        bits: u32,
    },
}

impl Quantization {
    /// The quantized tensor.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Format {
                format,
                rounding,
                clamped,
            } => fake_quantize(x, &format, rounding, clamped),
            Self::TrainedThreshold {
                log2_threshold,
                signed,
                bits,
                axis,
            } => trained_threshold(x, log2_threshold, signed, bits, axis),
            Self::DorefaWeight { bits } => dorefa_weight(x, bits),
        }
    }
}

/// A tensor and how the operator that reads it quantizes it, if at all.
#[derive(Debug, Clone)]
pub struct Operand<const D: usize> {
    tensor: Tensor<D>,
    quantization: Option<Quantization>,
}

impl<const D: usize> Operand<D> {
    /// An operand that is quantized as given.
    pub fn new(tensor: Tensor<D>, quantization: Option<Quantization>) -> Self {
        Self {
            tensor,
            quantization,
        }
    }

    /// How it is quantized, if at all.
    pub fn quantization(&self) -> Option<&Quantization> {
        self.quantization.as_ref()
    }

    pub(crate) fn into_inner(self) -> (Tensor<D>, Option<Quantization>) {
        (self.tensor, self.quantization)
    }

    /// The tensor as the operator sees it.
    pub fn quantized(self) -> Tensor<D> {
        match self.quantization {
            Some(quantization) => quantization.apply(self.tensor),
            None => self.tensor,
        }
    }
}

impl<const D: usize> From<Tensor<D>> for Operand<D> {
    fn from(tensor: Tensor<D>) -> Self {
        Self::new(tensor, None)
    }
}
