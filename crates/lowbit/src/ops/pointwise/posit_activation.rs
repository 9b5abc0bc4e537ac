//! Sigmoid and hyperbolic tangent computed on the bits of a posit.

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use lowbit_formats::posit::{PositActivation, PositFunction};

use crate::ops::backend::composed;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};

/// A [`PositActivation`] of every element.
///
/// Backward, the derivative of the true function at the rounded output, as in QPyTorch's posit
/// extension: `dL/dx = dL/dy * y (1 - y)` for the sigmoid and `dL/dy * (1 - y^2)` for the two
/// hyperbolic tangents. NaN and infinities give NaN both ways.
///
/// # Shapes
/// `x` and the result: any shape, the same.
pub fn posit_activation<const D: usize>(x: Tensor<D>, function: PositActivation) -> Tensor<D> {
    operator::run(Posit(function), vec![x.into_dispatch()])
}

/// The operator behind [`posit_activation()`].
#[derive(Debug, Clone)]
struct Posit(PositActivation);

impl Operator<1> for Posit {
    fn save_inputs<B: Backend>(&self, _inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    fn save_outputs<B: Backend>(&self, outputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        outputs.to_vec()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        vec![composed::change_on_host::<B>(x, |values, _| {
            for x in values {
                *x = self.0.apply(*x);
            }
        })]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [y] = array(incoming.outputs);
        let square = B::float_mul(y.clone(), y.clone());
        let slope = match self.0.function() {
            PositFunction::Sigmoid => B::float_sub(y, square),
            PositFunction::Tanh | PositFunction::TanhEnhanced => {
                B::float_add_scalar(B::float_neg(square), 1.0f32.into())
            }
        };
        [Some(B::float_mul(incoming.grad, slope))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let function = self.0;
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            flex::map(x, move |x| function.apply(x))
        })]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    const FUNCTIONS: [PositFunction; 3] = [
        PositFunction::Sigmoid,
        PositFunction::Tanh,
        PositFunction::TanhEnhanced,
    ];

    /// By hand for posit(8,0): sigmoid(2) = 0.875 and its slope there 0.875 * 0.125; tanh(0.5) =
    /// 2 sigmoid(1) - 1 = 0.5 and 1 - 0.25; enhanced tanh(2) = 0.875 + 0.06795.
    #[test]
    fn values_and_slopes_by_hand() {
        let device = Device::flex().autodiff();
        let enhanced = 0.875f32 + 0.06795;
        let cases = [
            (PositFunction::Sigmoid, 2.0, 0.875, 0.875 * 0.125),
            (PositFunction::Tanh, 0.5, 0.5, 0.75),
            (
                PositFunction::TanhEnhanced,
                2.0,
                enhanced,
                1.0 - enhanced * enhanced,
            ),
        ];
        for (function, x, y, slope) in cases {
            let x = Tensor::<1>::from_floats([x], &device).require_grad();
            let function = PositActivation::new(function, 8).unwrap();
            let output = posit_activation(x.clone(), function);
            let grads = (output.clone() * 3.0).sum().backward();
            assert_eq!(output.into_scalar::<f32>(), y);
            let grad = x.grad(&grads).unwrap().into_scalar::<f32>();
            assert!((grad - 3.0 * slope).abs() < 1e-6, "{grad} {slope}");
        }
    }

    /// With 16 bits the surrogate is near the true derivative, taken by finite differences. Where
    /// the function is off by e, `y (1 - y)` is off by at most e and `1 - y^2` by at most 2 e;
    /// `lowbit_formats` finds e below 0.07, twice that and 0.09.
    #[test]
    fn slopes_are_near_those_of_the_true_functions() {
        let device = Device::flex().autodiff();
        let x: Vec<f32> = (-30..=30).map(|i| i as f32 / 10.0).collect();
        for function in FUNCTIONS {
            let truth = |x: f64| match function {
                PositFunction::Sigmoid => 1.0 / (1.0 + (-x).exp()),
                _ => x.tanh(),
            };
            let xt = Tensor::<1>::from_floats(&x[..], &device).require_grad();
            let output = posit_activation(xt.clone(), PositActivation::new(function, 16).unwrap());
            let grads = output.sum().backward();
            let grad: Vec<f32> = xt.grad(&grads).unwrap().into_data().iter().collect();
            for (&x, grad) in x.iter().zip(grad) {
                let x = f64::from(x);
                let slope = (truth(x + 1e-5) - truth(x - 1e-5)) / 2e-5;
                let off = match function {
                    PositFunction::Sigmoid => 0.07,
                    PositFunction::Tanh => 0.28,
                    PositFunction::TanhEnhanced => 0.18,
                };
                assert!(
                    (f64::from(grad) - slope).abs() < off,
                    "{function:?} {x}: {grad} {slope}"
                );
            }
        }
    }

    #[test]
    fn not_a_number_stays_so() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats([f32::NAN, f32::INFINITY], &device).require_grad();
        let function = PositActivation::new(PositFunction::Tanh, 16).unwrap();
        let output = posit_activation(x.clone(), function);
        let grad = x.grad(&output.clone().sum().backward()).unwrap();
        let all = |t: Tensor<1>| t.into_data().iter::<f32>().all(f32::is_nan);
        assert!(all(output) && all(grad));
    }

    #[test]
    fn the_composed_pass_agrees_with_the_kernel() {
        let x: Vec<f32> = (-50..50).map(|i| i as f32 * 0.13).collect();
        let flex = || FlexTensor::from_data(TensorData::new(x.clone(), [10, 10]));
        let read = |t: FlexTensor| t.into_data().iter::<f32>().collect::<Vec<_>>();
        for function in FUNCTIONS {
            let operator = Posit(PositActivation::new(function, 8).unwrap());
            let [kernel] = array(operator.flex_forward(Inputs::new(vec![flex()])));
            let [plain] = array(operator.forward::<Flex>(Inputs::new(vec![flex()])));
            assert_eq!(read(kernel), read(plain));
        }
    }
}
