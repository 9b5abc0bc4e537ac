//! Softmax.

use burn::backend::Backend;
use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use lowbit_kernels::softmax;

use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};

/// `e^x_i / sum_j e^x_j` along dimension `dim`. Any shape.
pub fn softmax<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    match dim + 1 == D {
        true => operator::run(Softmax, vec![x.into_dispatch()]),
        false => burn::tensor::activation::softmax(x, dim),
    }
}

/// `e^x_i / (1 + sum_j e^x_j)` along dimension `dim`, composed of Burn's functions. Any shape.
pub fn quiet_softmax<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    burn::tensor::activation::quiet_softmax(x, dim)
}

/// The operator behind [`softmax()`], along the last dimension.
#[derive(Debug, Clone, Copy)]
struct Softmax;

fn last<B: Backend>(x: &FloatTensor<B>) -> usize {
    x.shape().num_dims() - 1
}

impl Operator<1> for Softmax {
    fn save_inputs<B: Backend>(&self, _inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    fn save_outputs<B: Backend>(&self, outputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        outputs.to_vec()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        let dim = last::<B>(&x);
        vec![<B as ActivationOps<B>>::softmax(x, dim)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [y] = array(incoming.outputs);
        let dim = last::<B>(&y);
        let all = B::float_sum_dim(B::float_mul(y.clone(), incoming.grad.clone()), dim);
        let centred = B::float_sub(incoming.grad, all);
        [Some(B::float_mul(y, centred))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            let x = flex::contiguous(x);
            let row = x.shape()[last::<Flex>(&x)];
            let made = flex::change(x, |x| softmax::softmax(x, row));
            made.0
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let [y] = array(incoming.outputs);
        [Some(flex::in_f32(incoming.grad, |grad| {
            let (y, grad) = (flex::contiguous(flex::to_f32(y)), flex::contiguous(grad));
            let row = y.shape()[last::<Flex>(&y)];
            let made = flex::replace(y, grad, |y, grad| softmax::softmax_backward(y, grad, row));
            made.0
        }))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;

    /// Kernels against what is composed, of rows that lie one after the other and of others.
    #[test]
    fn kernels_are_what_is_composed() {
        let numbers = |step: usize| -> FlexTensor {
            let values: Vec<f32> = (0..60).map(|i| ((i * step) % 17) as f32 / 4.0).collect();
            FlexTensor::from_data(TensorData::new(values, [3, 5, 4]))
        };
        let x = || Flex::float_swap_dims(numbers(7), 0, 2);
        let [kernel] = array(Softmax.flex_forward(Inputs::new(vec![x()])));
        let [plain] = array(Softmax.forward::<Flex>(Inputs::new(vec![x()])));
        let incoming = || Incoming {
            outputs: vec![plain.clone()],
            ..Incoming::new(Vec::new(), Flex::float_swap_dims(numbers(5), 0, 2))
        };
        let [back] = Softmax.flex_backward(incoming());
        let [plain_back] = Softmax.backward::<Flex>(incoming());
        for (a, b) in [
            (kernel, plain.clone()),
            (back.unwrap(), plain_back.unwrap()),
        ] {
            for (a, b) in flex::to_vec(&a).iter().zip(flex::to_vec(&b)) {
                assert!((a - b).abs() < 1e-6, "{a}, {b}");
            }
        }
    }
}
