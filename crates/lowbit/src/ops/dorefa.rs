//! DoReFa-Net weight quantization.
//!
//! Zhou, Wu, Ni, Zhou, Wen, Zou, "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks
//! with Low Bitwidth Gradients", arXiv 1606.06160, equations 7 to 10. Its activation quantization
//! (equation 11) is [`fake_quantize`](super::fake_quantize()) to the format `unit(k)`.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use lowbit_formats::kernel;

use super::tanh::tanh;
use super::{composed, flex};

/// Rounds weights to `bits` bits as DoReFa-Net does.
///
/// - `bits = 1` (equation 7): `y = sign(w) * mean(|w|)`, with `sign(0) = 1`; the gradient passes
///   unchanged.
/// - `bits = k` from 2 to 31 (equations 9 and 10): `y = 2 * round_k(tanh(w) / (2 m) + 1/2) - 1` with
///   `m = max |tanh(w)|` over the whole tensor and `round_k(v) = round((2^k - 1) v) / (2^k - 1)`,
///   ties to even. The gradient is that of `tanh(w) / m`, the rounding being passed straight
///   through: `g_i (1 - t_i^2) / m`, less `sign(t_j) (1 - t_j^2) / m^2 * sum_i(g_i t_i)` at the
///   weight `j` of largest magnitude (the first, if there are several), through which `m` depends
///   on the weights.
///
/// A tensor of zeros has `m = 0`; `tanh(w) / m` is then taken as 0 and its gradient as 0.
///
/// # Shapes
/// `w` and the result: any shape, the same.
pub fn dorefa_weight<const D: usize>(w: Tensor<D>, bits: u32) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as DorefaWeightOp>::dorefa_weight(
        w.into_dispatch(),
        bits,
    ))
}

/// The operator behind [`dorefa_weight()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait DorefaWeightOp: Backend {
    /// See [`dorefa_weight()`].
    fn dorefa_weight(w: FloatTensor<Self>, bits: u32) -> FloatTensor<Self>;
}

impl DorefaWeightOp for Flex {
    fn dorefa_weight(w: FlexTensor, bits: u32) -> FlexTensor {
        <Self as DorefaWeightKernel>::forward(w, bits)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl DorefaWeightOp for burn::backend::Cube {
    fn dorefa_weight(w: FloatTensor<Self>, bits: u32) -> FloatTensor<Self> {
        <Self as DorefaWeightKernel>::forward(w, bits)
    }
}

impl<B: DorefaWeightKernel, C: CheckpointStrategy> DorefaWeightOp for Autodiff<B, C> {
    fn dorefa_weight(w: FloatTensor<Self>, bits: u32) -> FloatTensor<Self> {
        let (w, node) = w.into_parts();
        match WeightBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let saved = (bits > 1).then(|| w.clone());
                prep.finish(saved, B::forward(w, bits))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::forward(w, bits)),
        }
    }
}

/// The backward step; its state is the weights, or nothing where the gradient passes unchanged.
#[derive(Debug)]
struct WeightBackward;

impl<B: DorefaWeightKernel> Backward<B, 1> for WeightBackward {
    type State = Option<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let grad = match ops.state {
                Some(w) => B::backward(w, grad),
                None => grad,
            };
            grads.register::<B>(parent.id, grad);
        }
    }
}

/// The two passes on one backend. The bodies given here are composed of tensor primitives and
/// serve every backend; Flex has kernels.
pub(crate) trait DorefaWeightKernel: Backend {
    /// The rounded weights.
    fn forward(w: FloatTensor<Self>, bits: u32) -> FloatTensor<Self> {
        composed::dorefa_forward::<Self>(w, bits)
    }

    /// The gradient to the weights, for two bits and more.
    fn backward(w: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::dorefa_backward::<Self>(w, grad)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl DorefaWeightKernel for burn::backend::Cube {}

impl DorefaWeightKernel for Flex {
    fn forward(w: FlexTensor, bits: u32) -> FlexTensor {
        flex::in_f32(w, |w| {
            let w = flex::dense(w);
            let data = w.storage::<f32>();
            if bits == 1 {
                let sum = kernel::fold(data, 0.0, |sum, w| sum + f64::from(w.abs()), |a, b| a + b);
                let mean = (sum / data.len() as f64) as f32;
                return flex::map(w, move |w| if w < 0.0 { -mean } else { mean });
            }
            let half_inverse = half_inverse(tanh(kernel::max_abs(data)));
            let levels = ((1u64 << bits) - 1) as f32;
            flex::map(w, move |w| {
                let unit = tanh(w) * half_inverse + 0.5;
                2.0 * ((levels * unit).round_ties_even() / levels) - 1.0
            })
        })
    }

    fn backward(w: FlexTensor, grad: FlexTensor) -> FlexTensor {
        flex::in_f32(grad, |grad| {
            flex::in_f32(w, |w| {
                let (w, grad) = flex::dense_pair(w, grad);
                let data = w.storage::<f32>();
                let largest = kernel::max_abs(data);
                let max = tanh(largest);
                let inverse = 2.0 * half_inverse(max);
                let (mut output, sum) =
                    kernel::zip_fold_to_vec(
                        data,
                        grad.storage::<f32>(),
                        0.0f64,
                        #[inline(always)]
                        move |sum, w, g| {
                            let t = tanh(w);
                            (g * (1.0 - t * t) * inverse, sum + f64::from(g * t))
                        },
                        |a, b| a + b,
                    );
                if let Some(j) = data.iter().position(|w| w.abs() == largest) {
                    let slope = (1.0 - max * max) * inverse * inverse;
                    output[j] -= data[j].signum() * slope * sum as f32;
                }
                flex::with_storage(output, &w)
            })
        })
    }
}

/// `1 / (2 max)`, or zero where `max` is.
fn half_inverse(max: f32) -> f32 {
    if max == 0.0 { 0.0 } else { 0.5 / max }
}
