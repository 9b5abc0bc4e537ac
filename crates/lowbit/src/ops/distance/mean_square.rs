//! The mean square of a difference.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, Tensor};

use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};

/// `mean over all elements of (x - teacher)^2`. The gradient of `x` is `2 (x - teacher) / elements`;
/// the teacher gets none. The sum is in `f64` and in the order of the elements.
///
/// # Shapes
/// - `x`, `teacher`: any, the same
/// - result: `[1]`
///
/// # Panics
/// If the shapes differ.
pub fn mean_square<const D: usize>(x: Tensor<D>, teacher: Tensor<D>) -> Tensor<1> {
    let message = "a number of the teacher's is expected for each number";
    assert_eq!(x.dims(), teacher.dims(), "{message}");
    operator::run(MeanSquare, vec![x.into_dispatch(), teacher.into_dispatch()])
}

/// The operator behind [`mean_square()`].
#[derive(Debug, Clone)]
struct MeanSquare;

impl Operator<1> for MeanSquare {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x, teacher] = inputs.tensors();
        let difference = B::float_sub(x, teacher);
        vec![B::float_mean(B::float_mul(difference.clone(), difference))]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [x, teacher] = array(incoming.inputs);
        let shape = x.shape();
        let factor = 2.0 / shape.num_elements() as f64;
        let ones = Shape::from(vec![1; shape.as_slice().len()]);
        let grad = B::float_expand(B::float_reshape(incoming.grad, ones), shape);
        let difference = B::float_sub(x, teacher);
        let gradient = B::float_mul(difference, grad);
        [Some(B::float_mul_scalar(gradient, factor.into()))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x, teacher] = inputs.tensors();
        let dtype = x.dtype();
        let [x, teacher] = [x, teacher].map(|x| flex::contiguous(flex::to_f32(x)));
        let (x, teacher) = (x.storage::<f32>(), teacher.storage::<f32>());
        let squares = x.iter().zip(teacher).map(|(x, teacher)| {
            let difference = f64::from(*x) - f64::from(*teacher);
            difference * difference
        });
        let mean = squares.sum::<f64>() / x.len() as f64;
        vec![flex::to_dtype(flex::from_slice(&[mean as f32]), dtype)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let [x, teacher] = array(incoming.inputs);
        let dtype = x.dtype();
        let [x, teacher] = [x, teacher].map(flex::to_f32);
        let elements = x.layout().num_elements();
        let share = flex::to_vec(&incoming.grad)[0] * (2.0 / elements as f64) as f32;
        let gradient = flex::zip(x, teacher, move |x, teacher| (x - teacher) * share);
        [Some(flex::to_dtype(gradient, dtype))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Differences 1, -2, 0 and 3: squares 1 + 4 + 0 + 9, a mean of 3.5. Of the doubled loss, the
    /// gradients are 2 * 2 / 4 times the differences.
    #[test]
    fn values_and_gradients_by_hand() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[2.0, 0.0], [5.0, 3.0]], &device).require_grad();
        let teacher = Tensor::<2>::from_floats([[1.0, 2.0], [5.0, 0.0]], &Device::flex());
        let loss = mean_square(x.clone(), teacher);
        let grads = (loss.clone() * 2.0).backward();
        assert_eq!(loss.into_scalar::<f32>(), 3.5);
        let gradient: Vec<f32> = x.grad(&grads).unwrap().into_data().iter().collect();
        assert_eq!(gradient, [1.0, -2.0, 0.0, 3.0]);
    }

    #[test]
    fn the_passes_agree_with_tensor_primitives() {
        let wave = |f: f32| {
            let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|i| (i as f32 * f).sin()).collect();
            FlexTensor::from_data(TensorData::new(values, [2, 3, 4, 5]))
        };
        let both = || vec![wave(0.3), wave(0.9)];
        let assert_close = |a: &FlexTensor, b: &FlexTensor| {
            for (a, b) in flex::to_vec(a).iter().zip(flex::to_vec(b)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        };
        let [kernel] = array(MeanSquare.flex_forward(Inputs::new(both())));
        let [plain] = array(MeanSquare.forward::<Flex>(Inputs::new(both())));
        assert_close(&kernel, &plain);
        let incoming = || Incoming::new(both(), flex::from_slice(&[3.0]));
        let [kernel] = MeanSquare.flex_backward(incoming()).map(Option::unwrap);
        let [plain] = MeanSquare.backward::<Flex>(incoming()).map(Option::unwrap);
        assert_close(&kernel, &plain);
    }
}
