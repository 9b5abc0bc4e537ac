//! Activation functions.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::backend::flex;
pub use crate::ops::kernel::activation::Activation;
use crate::ops::kernel::activation::{Pointwise, with_activation};
use crate::ops::quantization::composed;

/// `max(x, 0)`; its gradient is zero where `x <= 0`. Any shape.
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Relu)
}

/// `min(max(x, 0), 6)`; its gradient is zero where `x <= 0` or `x >= 6`. Any shape.
pub fn relu6<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Relu6)
}

fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    let x = x.into_dispatch();
    Tensor::from_dispatch(<Dispatch as ActivationOp>::activate(x, activation))
}

/// The operator behind the functions of this file, routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait ActivationOp: Backend {
    /// The activation of every element.
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
}

impl ActivationOp for Flex {
    fn activate(x: FlexTensor, activation: Activation) -> FlexTensor {
        <Self as ActivationKernel>::forward(x, activation)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl ActivationOp for burn::backend::Cube {
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        <Self as ActivationKernel>::forward(x, activation)
    }
}

impl<B: ActivationKernel, C: CheckpointStrategy> ActivationOp for Autodiff<B, C> {
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let output = <B as ActivationKernel>::forward(x, activation);
        match ActivationBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            // What comes out says where the gradient goes, and the next operator keeps it anyway.
            OpsKind::Tracked(prep) => prep.finish((output.clone(), activation), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct ActivationBackward;

impl<B: ActivationKernel> Backward<B, 1> for ActivationBackward {
    type State = (FloatTensor<B>, Activation);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (output, activation) = ops.state.clone();
        let grad = <B as ActivationKernel>::backward(output, grad, activation);
        B::add(grads, &ops, 0, grad);
    }
}

/// The two passes on one backend. The bodies given here are composed of tensor primitives and
/// serve every backend; Flex has kernels.
pub(crate) trait ActivationKernel: Accumulate {
    /// The activation of every element.
    fn forward(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        activated::<Self>(x, activation)
    }

    /// The gradient of the input, given the output, or any number on its side of the bends.
    fn backward(
        output: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        activated_backward::<Self>(output, grad, activation)
    }
}

/// The activation of every element, composed of tensor primitives.
pub(crate) fn activated<B: Backend>(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    match activation {
        Activation::Identity => x,
        Activation::Relu => <B as ActivationOps<B>>::relu(x),
        Activation::Relu6 => B::float_clamp(x, 0.into(), 6.into()),
    }
}

/// Its gradient.
pub(crate) fn activated_backward<B: Backend>(
    output: FloatTensor<B>,
    grad: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    match activation {
        Activation::Identity => grad,
        Activation::Relu => <B as ActivationOps<B>>::relu_backward(output, grad),
        // The least number above 0 that no device takes for 0, and the greatest below 6.
        Activation::Relu6 => {
            let limits = (f32::MIN_POSITIVE, 6.0f32.next_down());
            composed::gradient_within::<B>(output, grad, limits.0, limits.1)
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl ActivationKernel for burn::backend::Cube {}

impl ActivationKernel for Flex {
    fn forward(x: FlexTensor, activation: Activation) -> FlexTensor {
        flex::in_f32(x, |x| {
            with_activation!(activation, |a| flex::map(x, move |x| a.of(x)))
        })
    }

    fn backward(output: FlexTensor, grad: FlexTensor, activation: Activation) -> FlexTensor {
        flex::in_f32(grad, |grad| {
            let output = flex::to_f32(output);
            with_activation!(activation, |a| flex::zip(output, grad, move |y, g| a
                .backward(y, g)))
        })
    }
}
