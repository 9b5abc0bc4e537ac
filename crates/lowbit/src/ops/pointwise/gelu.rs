//! Smooth rectifiers that weight a number by a sigmoid of it.

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use lowbit_kernels::smooth;

use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use crate::ops::backend::profile::timed;

/// `x / 2 (1 + erf(x / sqrt(2)))`. Any shape.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    operator::run(Smooth::Gelu, vec![x.into_dispatch()])
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`. Any shape.
pub fn gelu_approximate<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    operator::run(Smooth::GeluApproximate, vec![x.into_dispatch()])
}

/// `x / (1 + e^-x)`. Any shape.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    operator::run(Smooth::Silu, vec![x.into_dispatch()])
}

/// `x tanh(ln(1 + e^x))`, composed of Burn's functions. Any shape.
pub fn mish<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::mish(x)
}

/// The operator behind the functions of this file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Smooth {
    Gelu,
    GeluApproximate,
    Silu,
}

/// Compiles `body` for each of them as a type.
macro_rules! with_smooth {
    ($smooth:expr, |$name:ident| $body:expr) => {
        match $smooth {
            Smooth::Gelu => {
                let $name = smooth::Gelu;
                $body
            }
            Smooth::GeluApproximate => {
                let $name = smooth::GeluApproximate;
                $body
            }
            Smooth::Silu => {
                let $name = smooth::Silu;
                $body
            }
        }
    };
}

/// `2 sqrt(2 / pi)`, and the weight of the cube.
const APPROXIMATE: [f64; 2] = [1.595_769_121_605_730_7, 0.044_715];

impl Smooth {
    /// What both ways are called in a profile.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Silu => ["silu", "silu backward"],
            _ => ["gelu", "gelu backward"],
        }
    }

    /// What the sigmoid is of, of a function that is a number times a sigmoid: `x`, or
    /// `2 sqrt(2 / pi) (x + 0.044715 x^3)`.
    fn inside<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        if let Self::Silu = self {
            return x;
        }
        let [scale, cube] = APPROXIMATE;
        let square = B::float_mul(x.clone(), x.clone());
        let factor = B::float_add_scalar(B::float_mul_scalar(square, cube.into()), 1.into());
        B::float_mul_scalar(B::float_mul(x, factor), scale.into())
    }

    /// Its derivative.
    fn slope<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        let [scale, cube] = match self {
            Self::Silu => [1.0, 0.0],
            _ => APPROXIMATE,
        };
        let square = B::float_mul(x.clone(), x);
        let bent = B::float_mul_scalar(square, (3.0 * cube * scale).into());
        B::float_add_scalar(bent, scale.into())
    }
}

impl Operator<1> for Smooth {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        vec![match self {
            Self::Gelu => <B as ActivationOps<B>>::gelu(x),
            _ => {
                let inside = self.inside::<B>(x.clone());
                B::float_mul(x, <B as ActivationOps<B>>::sigmoid(inside))
            }
        }]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [x] = array(incoming.inputs);
        let grad = incoming.grad;
        if let Self::Gelu = self {
            return [Some(<B as ActivationOps<B>>::gelu_backward(x, grad))];
        }
        // s + x s (1 - s) u'
        let s = <B as ActivationOps<B>>::sigmoid(self.inside::<B>(x.clone()));
        let rest = B::float_add_scalar(B::float_neg(s.clone()), 1.into());
        let slope = B::float_mul(self.slope::<B>(x.clone()), rest);
        let slope = B::float_mul(B::float_mul(x, s.clone()), slope);
        [Some(B::float_mul(grad, B::float_add(s, slope)))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        use smooth::Smooth as _;
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            let [name, _] = self.names();
            timed(name, || {
                with_smooth!(self, |f| flex::map(
                    x,
                    #[inline(always)]
                    move |x| f.of(x)
                ))
            })
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        use smooth::Smooth as _;
        let [x] = array(incoming.inputs);
        [Some(flex::in_f32(incoming.grad, |grad| {
            let x = flex::to_f32(x);
            let [_, name] = self.names();
            timed(name, || {
                with_smooth!(self, |f| flex::zip(
                    x,
                    grad,
                    #[inline(always)]
                    move |x, g| g * f.derivative(x)
                ))
            })
        }))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels against the functions composed of Burn's.
    #[test]
    fn kernels_are_the_composed_functions() {
        let x: Vec<f32> = (-400..400).map(|i| i as f32 / 40.0).collect();
        let tensor = || FlexTensor::from_data(burn::tensor::TensorData::from(x.as_slice()));
        let ones = || {
            let ones = vec![1.0_f32; x.len()];
            FlexTensor::from_data(burn::tensor::TensorData::from(ones.as_slice()))
        };
        for smooth in [Smooth::Gelu, Smooth::GeluApproximate, Smooth::Silu] {
            let [kernel] = array(smooth.flex_forward(Inputs::new(vec![tensor()])));
            let [plain] = array(smooth.forward::<Flex>(Inputs::new(vec![tensor()])));
            let incoming = || Incoming::new(vec![tensor()], ones());
            let [back] = smooth.flex_backward(incoming());
            let [plain_back] = smooth.backward::<Flex>(incoming());
            for (a, b) in [(kernel, plain), (back.unwrap(), plain_back.unwrap())] {
                for (a, b) in flex::to_vec(&a).iter().zip(flex::to_vec(&b)) {
                    assert!(
                        (a - b).abs() < 4e-6 * b.abs().max(1.0),
                        "{smooth:?}: {a}, {b}"
                    );
                }
            }
        }
    }
}
