//! Quantization of an operand inside the operator that reads it.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::flex::Flex;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::Tensor;
use lowbit_formats::{Format, Rounding, kernel};

use crate::ops::backend::flex;
use crate::ops::quantization::format::ClampedGradient;
use crate::ops::quantization::format::{CHECKED, FakeQuantizeKernel};
use crate::ops::quantization::threshold::{Grid, TrainedThresholdKernel};
use crate::ops::quantization::{Operand, Quantization};

/// How an operator quantizes an operand as it reads it: one number at a time, so that any pass can
/// do it.
#[derive(Debug, Clone, ExtensionType)]
pub(crate) enum Reading<B: Backend> {
    /// As it is.
    Float,
    /// See [`fake_quantize`](crate::ops::fake_quantize()).
    Format {
        format: Format,
        rounding: Rounding,
        clamped: ClampedGradient,
    },
    /// See [`trained_threshold`](crate::ops::trained_threshold()), with one threshold for the whole
    /// tensor.
    Threshold {
        log2_t: FloatTensor<B>,
        signed: FloatTensor<B>,
        bits: u32,
    },
}

/// A tensor that may be absent.
#[derive(Debug, Clone, ExtensionType)]
pub(crate) enum Optional<B: Backend> {
    Absent,
    Present(FloatTensor<B>),
}

impl<B: Backend> From<Option<FloatTensor<B>>> for Optional<B> {
    fn from(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Present)
    }
}

impl<B: Backend> Optional<B> {
    pub(crate) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Present(tensor) => Some(tensor),
        }
    }
}

impl<const D: usize> Operand<D> {
    /// The tensor, and how it is to be quantized as it is read. What cannot be done one number at a
    /// time is done already.
    pub(crate) fn into_reading(self) -> (Tensor<D>, Reading<Dispatch>) {
        let (tensor, quantization) = self.into_inner();
        match quantization {
            None => (tensor, Reading::Float),
            Some(Quantization::Format {
                format,
                rounding,
                clamped,
            }) if !matches!(format, Format::Block(_))
                && !matches!(rounding, Rounding::Stochastic { .. }) =>
            {
                let reading = Reading::Format {
                    format,
                    rounding,
                    clamped,
                };
                (tensor, reading)
            }
            Some(Quantization::TrainedThreshold {
                log2_threshold,
                signed,
                bits,
                ..
            }) if log2_threshold.dims() == [1] => {
                let reading = Reading::Threshold {
                    log2_t: log2_threshold.into_dispatch(),
                    signed: signed.into_dispatch(),
                    bits,
                };
                (tensor, reading)
            }
            Some(other) => (other.apply(tensor), Reading::Float),
        }
    }
}

/// The parts of a reading and its threshold's node, on the way into an operator of `Autodiff`.
pub(crate) fn split<B: Backend, C: CheckpointStrategy>(
    reading: Reading<Autodiff<B, C>>,
) -> (Reading<B>, Option<NodeGuard>) {
    match reading {
        Reading::Float => (Reading::Float, None),
        Reading::Format {
            format,
            rounding,
            clamped,
        } => {
            let reading = Reading::Format {
                format,
                rounding,
                clamped,
            };
            (reading, None)
        }
        Reading::Threshold {
            log2_t,
            signed,
            bits,
        } => {
            let (log2_t, node) = log2_t.into_parts();
            let signed = signed.into_primitive();
            let reading = Reading::Threshold {
                log2_t,
                signed,
                bits,
            };
            (reading, Some(node))
        }
    }
}

/// Backends with the quantizing operators.
pub(crate) trait QuantizingKernels:
    Backend + FakeQuantizeKernel + TrainedThresholdKernel
{
}

impl<B: Backend + FakeQuantizeKernel + TrainedThresholdKernel> QuantizingKernels for B {}

/// The rounding as a pass of its own.
pub(crate) fn round<B: QuantizingKernels>(
    reading: &Reading<B>,
    x: FloatTensor<B>,
) -> FloatTensor<B> {
    match reading.clone() {
        Reading::Float => x,
        Reading::Format {
            format, rounding, ..
        } => <B as FakeQuantizeKernel>::forward(x, &format, rounding),
        Reading::Threshold {
            log2_t,
            signed,
            bits,
        } => <B as TrainedThresholdKernel>::forward(x, log2_t, signed, bits, 0),
    }
}

/// The gradients of [`round`] to `x`, and to the threshold where there is one.
pub(crate) fn round_backward<B: QuantizingKernels>(
    reading: &Reading<B>,
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    match reading.clone() {
        Reading::Format {
            format,
            clamped: ClampedGradient::Zero,
            ..
        } => (
            B::gradient_within(x, grad, format.min(), format.max()),
            None,
        ),
        Reading::Float | Reading::Format { .. } => (grad, None),
        Reading::Threshold {
            log2_t,
            signed,
            bits,
        } => {
            let (grad_x, grad_t) =
                <B as TrainedThresholdKernel>::backward(x, log2_t, signed, grad, bits, 0);
            (grad_x, Some(grad_t))
        }
    }
}

/// A [`Reading`] as the passes of a kernel use it.
pub(crate) enum Rows {
    Float,
    Format {
        format: Format,
        rounding: Rounding,
        /// The limits outside which the gradient is zero.
        limits: Option<(f32, f32)>,
    },
    Threshold(Grid),
}

impl Rows {
    /// The passes of a reading.
    pub(crate) fn of(reading: &Reading<Flex>) -> Self {
        match reading {
            Reading::Float => Self::Float,
            Reading::Format {
                format,
                rounding,
                clamped,
            } => Self::Format {
                format: format.clone(),
                rounding: *rounding,
                limits: (*clamped == ClampedGradient::Zero).then(|| (format.min(), format.max())),
            },
            Reading::Threshold {
                log2_t,
                signed,
                bits,
            } => Self::Threshold(Grid::new(
                flex::to_vec(log2_t)[0],
                flex::to_vec(signed)[0] != 0.0,
                *bits,
            )),
        }
    }

    /// Whether the numbers stay as they are.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self, Self::Float)
    }

    /// Whether the gradient of the rounded numbers is that of the numbers.
    pub(crate) fn passes_gradients(&self) -> bool {
        matches!(self, Self::Float | Self::Format { limits: None, .. })
    }

    /// Rounds numbers into a slice as long, on this thread if they are few.
    pub(crate) fn round(&self, row: &[f32], output: &mut [f32]) {
        match self {
            Self::Float => output.copy_from_slice(row),
            Self::Format {
                format, rounding, ..
            } => format.quantize(row, output, *rounding).expect(CHECKED),
            Self::Threshold(grid) => {
                let grid = *grid;
                kernel::map(
                    row,
                    output,
                    #[inline(always)]
                    move |x| grid.round(x),
                );
            }
        }
    }

    /// Turns the gradient of the rounded `x` into that of `x`, in place, on this thread; returns
    /// that of the threshold's logarithm.
    pub(crate) fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> f64 {
        match self {
            Self::Float | Self::Format { limits: None, .. } => 0.0,
            &Self::Format {
                limits: Some((min, max)),
                ..
            } => {
                crate::ops::kernel::elementwise::update(
                    x,
                    grad,
                    #[inline(always)]
                    move |x, g| if x >= min && x <= max { g } else { 0.0 },
                );
                0.0
            }
            Self::Threshold(grid) => {
                let grid = *grid;
                crate::ops::kernel::elementwise::update_and_sum(
                    x,
                    grad,
                    #[inline(always)]
                    move |x, g| grid.gradients(x, g),
                )
            }
        }
    }
}
