//! Sigmoid and hyperbolic tangent from the bits of posits.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use lowbit_formats::posit::{PositActivation, PositFunction};

use super::flex;

/// Each element's [`PositActivation`]: a sigmoid or hyperbolic tangent by shifting the bits of the
/// posit with 8 or 16 bits and es = 0 to which the element is rounded.
///
/// The gradient is that of the function which the bits approximate, at the result `y`:
/// `g y (1 - y)` for the sigmoid, `g (1 - y^2)` for both hyperbolic tangents.
///
/// # Shapes
/// `x` and the result: any shape, the same.
pub fn posit_activation<const D: usize>(x: Tensor<D>, activation: PositActivation) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as PositActivationOp>::posit_activation(
        x.into_dispatch(),
        activation,
    ))
}

/// The operator behind [`posit_activation()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait PositActivationOp: Backend {
    /// See [`posit_activation()`].
    fn posit_activation(x: FloatTensor<Self>, activation: PositActivation) -> FloatTensor<Self>;
}

impl PositActivationOp for Flex {
    fn posit_activation(x: FlexTensor, activation: PositActivation) -> FlexTensor {
        flex::in_f32(x, |x| {
            flex::map(flex::contiguous(x), move |x| activation.apply(x))
        })
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl PositActivationOp for burn::backend::Cube {
    fn posit_activation(x: FloatTensor<Self>, activation: PositActivation) -> FloatTensor<Self> {
        super::composed::on_host::<Self>(x, |values| {
            values.iter_mut().for_each(|x| *x = activation.apply(*x));
        })
    }
}

impl<B: PositActivationOp, C: CheckpointStrategy> PositActivationOp for Autodiff<B, C> {
    fn posit_activation(x: FloatTensor<Self>, activation: PositActivation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = B::posit_activation(x, activation);
        match ActivationBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((y.clone(), activation.function()), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// The backward step; its state is the result and the function.
#[derive(Debug)]
struct ActivationBackward;

impl<B: Backend> Backward<B, 1> for ActivationBackward {
    type State = (FloatTensor<B>, PositFunction);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (y, function) = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let square = B::float_mul(y.clone(), y.clone());
            let slope = match function {
                PositFunction::Sigmoid => B::float_sub(y, square),
                PositFunction::Tanh | PositFunction::TanhEnhanced => {
                    B::float_add_scalar(B::float_neg(square), 1.0f32.into())
                }
            };
            grads.register::<B>(parent.id, B::float_mul(grad, slope));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn run(function: PositFunction, x: &[f32], g: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let device = Device::flex().autodiff();
        let tensor =
            |v: &[f32]| Tensor::<1>::from_data(TensorData::new(v.to_vec(), [v.len()]), &device);
        let x = tensor(x).require_grad();
        let activation = PositActivation::new(function, 8).unwrap();
        let y = posit_activation(x.clone(), activation);
        let grads = (y.clone() * tensor(g)).sum().backward();
        let grad = x.grad(&grads).unwrap();
        let numbers = |data: TensorData| data.iter::<f32>().collect();
        (numbers(y.into_data()), numbers(grad.into_data()))
    }

    /// Codes of posit(8,0): 0 has 00000000, which becomes 00100000 (1/2); 1 has 01000000, which
    /// becomes 00110000 (3/4); -1 has 11000000, which becomes 00010000 (1/4). Slopes: 1/4, 3/16,
    /// 3/16.
    #[test]
    fn sigmoid_by_hand() {
        let (y, grad) = run(PositFunction::Sigmoid, &[0.0, 1.0, -1.0], &[1.0, 2.0, -4.0]);
        assert_eq!(y, [0.5, 0.75, 0.25]);
        assert_eq!(grad, [0.25, 0.375, -0.75]);
    }

    /// `2 sigmoid(2x) - 1` at 1/2 and -1/2, where 2x is 1 and -1: 1/2 and -1/2; slopes 3/4.
    #[test]
    fn tanh_by_hand() {
        for function in [PositFunction::Tanh, PositFunction::TanhEnhanced] {
            let (y, grad) = run(function, &[0.0, 0.5, -0.5], &[1.0, 1.0, 8.0]);
            assert_eq!(y, [0.0, 0.5, -0.5]);
            assert_eq!(grad, [1.0, 0.75, 6.0]);
        }
    }
}
