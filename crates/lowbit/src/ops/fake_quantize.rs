//! Fake quantization to a [`Format`] with the straight-through estimator.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use lowbit_formats::{Format, Rounding};
use serde::{Deserialize, Serialize};

use super::{composed, flex};

/// What a caller has made sure of.
pub(super) const CHECKED: &str = "the number of random bits is from 1 to 32";

/// What the straight-through estimator hands back where the input lies outside the format's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClampedGradient {
    /// The incoming gradient, as everywhere else.
    Pass,
    /// Zero: the derivative of a clamp. An input equal to a limit still passes its gradient.
    #[default]
    Zero,
}

/// Rounds every element to `format` on the way forward; hands the gradient through on the way back.
///
/// Forward: `y = round(x)`, the nearest value of `format` by `rounding`. Backward (straight-through
/// estimator, Bengio et al., arXiv 1308.3432): `dL/dx = dL/dy`, and with
/// [`ClampedGradient::Zero`], `dL/dx = 0` where `x < min` or `x > max` of the format, or where `x`
/// is NaN.
///
/// # Shapes
/// `x` and the result: any shape, the same.
///
/// # Panics
/// If `rounding` is stochastic with a number of random bits outside 1 to 32.
pub fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    format: &Format,
    rounding: Rounding,
    clamped: ClampedGradient,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FakeQuantizeOp>::fake_quantize(
        x.into_dispatch(),
        format.clone(),
        rounding,
        clamped,
    ))
}

/// The operator behind [`fake_quantize()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait FakeQuantizeOp: Backend {
    /// See [`fake_quantize()`].
    fn fake_quantize(
        x: FloatTensor<Self>,
        format: Format,
        rounding: Rounding,
        clamped: ClampedGradient,
    ) -> FloatTensor<Self>;
}

impl FakeQuantizeOp for Flex {
    fn fake_quantize(
        x: FlexTensor,
        format: Format,
        rounding: Rounding,
        _clamped: ClampedGradient,
    ) -> FlexTensor {
        <Self as FakeQuantizeKernel>::forward(x, &format, rounding)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl FakeQuantizeOp for burn::backend::Cube {
    fn fake_quantize(
        x: FloatTensor<Self>,
        format: Format,
        rounding: Rounding,
        _clamped: ClampedGradient,
    ) -> FloatTensor<Self> {
        <Self as FakeQuantizeKernel>::forward(x, &format, rounding)
    }
}

impl<B: FakeQuantizeKernel, C: CheckpointStrategy> FakeQuantizeOp for Autodiff<B, C> {
    fn fake_quantize(
        x: FloatTensor<Self>,
        format: Format,
        rounding: Rounding,
        clamped: ClampedGradient,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match StraightThrough.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let limits = (clamped == ClampedGradient::Zero)
                    .then(|| (x.clone(), format.min(), format.max()));
                prep.finish(limits, B::forward(x, &format, rounding))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::forward(x, &format, rounding)),
        }
    }
}

/// The backward step of fake quantization; its state is the input and the format's limits, where
/// the gradient depends on them.
#[derive(Debug)]
struct StraightThrough;

impl<B: FakeQuantizeKernel> Backward<B, 1> for StraightThrough {
    type State = Option<(FloatTensor<B>, f32, f32)>;

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
                Some((x, min, max)) => B::gradient_within(x, grad, min, max),
                None => grad,
            };
            grads.register::<B>(parent.id, grad);
        }
    }
}

/// The two passes of fake quantization on one backend. The bodies given here are composed of
/// tensor primitives and serve every backend; Flex has kernels.
pub(crate) trait FakeQuantizeKernel: Backend {
    /// Every element rounded to `format`.
    fn forward(x: FloatTensor<Self>, format: &Format, rounding: Rounding) -> FloatTensor<Self> {
        composed::round_to_format::<Self>(x, format, rounding)
    }

    /// `grad` where `min <= x <= max`, zero elsewhere.
    fn gradient_within(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        min: f32,
        max: f32,
    ) -> FloatTensor<Self> {
        composed::gradient_within::<Self>(x, grad, min, max)
    }
}

impl FakeQuantizeKernel for Flex {
    fn forward(x: FlexTensor, format: &Format, rounding: Rounding) -> FlexTensor {
        flex::in_f32(x, |x| {
            // A block format or a stochastic rounding counts elements in row-major order.
            let mut x = flex::contiguous(x);
            if let Some(data) = x.try_storage_mut::<f32>() {
                format.quantize_in_place(data, rounding).expect(CHECKED);
                return x;
            }
            let rounded = format.quantize_to_vec(x.storage::<f32>(), rounding);
            flex::with_storage(rounded.expect(CHECKED), &x)
        })
    }

    fn gradient_within(x: FlexTensor, grad: FlexTensor, min: f32, max: f32) -> FlexTensor {
        flex::in_f32(grad, |grad| {
            flex::in_f32(x, |x| {
                flex::zip(x, grad, move |x, g| if x >= min && x <= max { g } else { 0.0 })
            })
        })
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl FakeQuantizeKernel for burn::backend::Cube {}
