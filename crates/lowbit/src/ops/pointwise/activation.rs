//! Activation functions.

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;

use crate::ops::backend::composed;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
pub use lowbit_kernels::activation::Activation;
use lowbit_kernels::activation::{Pointwise, with_activation};

/// `max(x, 0)`; its gradient is zero where `x <= 0`. Any shape.
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Relu)
}

/// `min(max(x, 0), 6)`; its gradient is zero where `x <= 0` or `x >= 6`. Any shape.
pub fn relu6<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Relu6)
}

fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    operator::run(Activate(activation), vec![x.into_dispatch()])
}

/// The operator behind the functions of this file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activate(pub(crate) Activation);

impl Operator<1> for Activate {
    fn save_inputs<B: Backend>(&self, _inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    // What comes out says where the gradient goes, and the next operator keeps it anyway.
    fn save_outputs<B: Backend>(&self, outputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        outputs.to_vec()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        vec![activated::<B>(x, self.0)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [output] = array(incoming.outputs);
        [Some(activated_backward::<B>(output, incoming.grad, self.0))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            with_activation!(self.0, |a| flex::map(x, move |x| a.of(x)))
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let [output] = array(incoming.outputs);
        [Some(flex::in_f32(incoming.grad, |grad| {
            let output = flex::to_f32(output);
            with_activation!(self.0, |a| flex::zip(output, grad, move |y, g| a
                .backward(y, g)))
        }))]
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
