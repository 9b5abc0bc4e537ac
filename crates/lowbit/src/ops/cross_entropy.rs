//! Cross-entropy of class scores.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::{FloatTensor, IndexingUpdateOp};
use burn::tensor::{Int, Shape, Tensor};
use lowbit_kernels::cross_entropy as kernel;

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use crate::ops::backend::profile::timed;

/// `mean over n of (log(sum over c of exp(scores[n, c])) - scores[n, targets[n]])`: the negative
/// logarithm of the probability that a softmax of the scores gives the right class.
///
/// # Shapes
/// - `scores`: `[batch, classes]`
/// - `targets`: `[batch]`, each from 0 to the number of classes less one
/// - result: `[1]`
///
/// # Panics
/// If the shapes are others, or, on Flex, a target is out of its range; elsewhere it may give NaN.
/// Training refuses such labels before ([`Split::check`](crate::data::Split::check)).
pub fn cross_entropy(scores: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    smoothed_cross_entropy(scores, targets, 0.0)
}

/// The cross-entropy with smoothed labels (Szegedy et al., arXiv 1512.00567, section 7): of the
/// right class a part `smoothing` is taken and spread over all `K` classes, itself among them,
/// `q[n, c] = (1 - smoothing) (c == targets[n]) + smoothing / K`, and the loss is
/// `mean over n of (log(sum over c of exp(scores[n, c])) - sum over c of q[n, c] scores[n, c])`.
/// Without smoothing it is [`cross_entropy`] to the bit. PyTorch's `label_smoothing` is the same.
///
/// # Shapes
/// - `scores`: `[batch, classes]`
/// - `targets`: `[batch]`, each from 0 to the number of classes less one
/// - result: `[1]`
///
/// # Panics
/// As [`cross_entropy`].
pub fn smoothed_cross_entropy(
    scores: Tensor<2>,
    targets: Tensor<1, Int>,
    smoothing: f32,
) -> Tensor<1> {
    let [batch, _] = scores.dims();
    assert_eq!(
        targets.dims(),
        [batch],
        "a target is expected for each row of scores"
    );
    let inputs = Inputs {
        tensors: vec![scores.into_dispatch()],
        indices: Some(targets.into_dispatch()),
    };
    let [loss] = array(operator::run_all(CrossEntropy { smoothing }, inputs));
    Tensor::from_dispatch(loss)
}

/// What the caller has made sure of.
const TARGETS: &str = "scores come with targets";

/// The operator behind [`cross_entropy()`]; the targets are its indices.
#[derive(Debug, Clone)]
struct CrossEntropy {
    /// What is taken from the right class and spread over all.
    smoothing: f32,
}

impl Operator<1> for CrossEntropy {
    fn forward<B: Kernels>(&self, mut inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let targets = inputs.indices.take().expect(TARGETS);
        let [scores] = inputs.tensors();
        let batch = scores.shape()[0];
        let logarithms = <B as ActivationOps<B>>::log_softmax(scores, 1);
        let targets = B::int_reshape(targets, Shape::new([batch, 1]));
        let picked = B::float_mean(B::float_gather(1, logarithms.clone(), targets));
        let mean = match self.smoothing {
            0.0 => picked,
            smoothing => B::float_add(
                B::float_mul_scalar(picked, (1.0 - smoothing).into()),
                B::float_mul_scalar(B::float_mean(logarithms), smoothing.into()),
            ),
        };
        vec![B::float_neg(mean)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [scores] = array(incoming.inputs);
        let targets = incoming.indices.expect(TARGETS);
        let shape = scores.shape();
        let (device, dtype) = (scores.device(), scores.dtype());
        let (batch, classes) = (shape[0], shape[1]);
        let probabilities = B::float_exp(<B as ActivationOps<B>>::log_softmax(scores, 1));
        let targets = B::int_reshape(targets, Shape::new([batch, 1]));
        let ones = B::float_ones(Shape::new([batch, 1]), &device, dtype.into());
        let difference = B::float_scatter(
            1,
            probabilities,
            targets,
            B::float_mul_scalar(ones, (self.smoothing - 1.0).into()),
            IndexingUpdateOp::Add,
        );
        let spread = f64::from(self.smoothing) / classes as f64;
        let difference = B::float_sub_scalar(difference, spread.into());
        let grad = B::float_expand(B::float_reshape(incoming.grad, Shape::new([1, 1])), shape);
        [Some(B::float_div_scalar(
            B::float_mul(difference, grad),
            (batch as f64).into(),
        ))]
    }

    fn flex_forward(&self, mut inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let targets = inputs.indices.take().expect(TARGETS);
        let [scores] = inputs.tensors();
        let dtype = scores.dtype();
        let scores = flex::contiguous(flex::to_f32(scores));
        let classes = scores.layout().shape()[1];
        let targets = places(targets, classes);
        let losses = timed("cross_entropy", || {
            kernel::cross_entropy(scores.storage(), &targets, self.smoothing)
        });
        let mean = losses.into_iter().sum::<f64>() / targets.len() as f64;
        vec![flex::to_dtype(flex::from_slice(&[mean as f32]), dtype)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let [scores] = array(incoming.inputs);
        let targets = incoming.indices.expect(TARGETS);
        let dtype = scores.dtype();
        let scores = flex::contiguous(flex::to_f32(scores));
        let classes = scores.layout().shape()[1];
        let targets = places(targets, classes);
        let share = flex::to_vec(&incoming.grad)[0] / targets.len() as f32;
        let mut output = Buffer::new(scores.layout().num_elements());
        timed("cross_entropy backward", || {
            let given = [self.smoothing, share];
            kernel::cross_entropy_backward(scores.storage(), &targets, given, &mut output);
        });
        [Some(flex::to_dtype(
            flex::from_buffer(output, scores.layout().clone()),
            dtype,
        ))]
    }
}

/// The targets as places in rows.
fn places(targets: FlexTensor, classes: usize) -> Vec<usize> {
    let data = targets.into_data();
    data.iter::<i64>()
        .map(|target| {
            let place = usize::try_from(target)
                .ok()
                .filter(|&place| place < classes);
            place.unwrap_or_else(|| panic!("target {target} is none of {classes} classes"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    /// PyTorch raises `IndexError: Target 12 is out of bounds.`
    #[test]
    #[should_panic(expected = "target 12 is none of 10 classes")]
    fn a_target_that_is_no_class_is_named() {
        let device = burn::tensor::Device::flex();
        cross_entropy(
            Tensor::zeros([1, 10], &device),
            Tensor::from_ints([12], &device),
        );
    }

    #[test]
    fn values_and_gradients_by_hand() {
        // Rows of two classes: softmax of (0, ln 3) is (1/4, 3/4), of (1000, 1000) halves.
        let device = burn::tensor::Device::flex().autodiff();
        let scores =
            Tensor::<2>::from_floats([[0.0, 3f32.ln()], [1000.0, 1000.0]], &device).require_grad();
        let targets = Tensor::<1, Int>::from_ints([0, 1], &device);
        let loss = cross_entropy(scores.clone(), targets);
        let grads = (loss.clone() * 2.0).backward();
        let read = |data: TensorData| data.iter::<f32>().collect::<Vec<_>>();
        let expected = (4f32.ln() + 2f32.ln()) / 2.0;
        assert!((read(loss.into_data())[0] - expected).abs() < 1e-6);
        let gradient = read(scores.grad(&grads).unwrap().into_data());
        for (g, expected) in gradient.iter().zip([-0.75, 0.75, 0.5, -0.5]) {
            assert!((g - expected).abs() < 1e-6, "{g} {expected}");
        }
    }

    /// Scores 0 and ln 3 have probabilities 1/4 and 3/4; the first class, smoothed by a half of two
    /// classes, is 3/4 to 1/4. The loss is ln 4 - (3/4 0 + 1/4 ln 3), the gradient
    /// (1/4 - 3/4, 3/4 - 1/4).
    #[test]
    fn a_smoothed_label_by_hand() {
        let device = burn::tensor::Device::flex().autodiff();
        let scores = Tensor::<2>::from_floats([[0.0, 3f32.ln()]], &device).require_grad();
        let targets = Tensor::<1, Int>::from_ints([0], &device);
        let loss = smoothed_cross_entropy(scores.clone(), targets, 0.5);
        let grads = loss.clone().backward();
        let expected = 4f32.ln() - 3f32.ln() / 4.0;
        assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6);
        let gradient = scores.grad(&grads).unwrap().into_data();
        for (g, expected) in gradient.iter::<f32>().zip([-0.5, 0.5]) {
            assert!((g - expected).abs() < 1e-6, "{g} {expected}");
        }
    }

    #[test]
    fn the_passes_agree_with_tensor_primitives() {
        [0.0, 0.1].into_iter().for_each(passes_agree);
    }

    fn passes_agree(smoothing: f32) {
        let operator = CrossEntropy { smoothing };
        let (batch, classes) = (33, 7);
        let scores = || {
            let values: Vec<f32> = (0..batch * classes)
                .map(|i| (i as f32 * 0.7).sin() * 5.0)
                .collect();
            FlexTensor::from_data(TensorData::new(values, [batch, classes]))
        };
        let targets = || {
            let values: Vec<i64> = (0..batch as i64).map(|i| i % classes as i64).collect();
            FlexTensor::from_data(TensorData::new(values, [batch]))
        };
        let assert_close = |a: FlexTensor, b: FlexTensor| {
            for (a, b) in flex::to_vec(&a).iter().zip(flex::to_vec(&b)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        };
        let inputs = || Inputs {
            tensors: vec![scores()],
            indices: Some(targets()),
        };
        let [kernel] = array(operator.flex_forward(inputs()));
        let [plain] = array(operator.forward::<Flex>(inputs()));
        assert_close(kernel, plain);
        let incoming = || Incoming {
            indices: Some(targets()),
            ..Incoming::new(vec![scores()], flex::from_slice(&[3.0]))
        };
        let [kernel] = operator.flex_backward(incoming()).map(Option::unwrap);
        let [plain] = operator.backward::<Flex>(incoming()).map(Option::unwrap);
        assert_close(kernel, plain);
    }
}
