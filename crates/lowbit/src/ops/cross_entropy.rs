//! Cross-entropy of class scores.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::{FloatTensor, IndexingUpdateOp, IntTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Int, Shape, Tensor};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;

/// `mean over n of (log(sum over c of exp(scores[n, c])) - scores[n, targets[n]])`: the negative
/// logarithm of the probability that a softmax of the scores gives the right class.
///
/// # Shapes
/// - `scores`: `[batch, classes]`
/// - `targets`: `[batch]`, each from 0 to the number of classes less one
/// - result: `[1]`
///
/// # Panics
/// If the shapes are others. A target out of its range panics or gives NaN, as the backend does.
pub fn cross_entropy(scores: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = scores.dims();
    assert_eq!(
        targets.dims(),
        [batch],
        "a target is expected for each row of scores"
    );
    Tensor::from_dispatch(<Dispatch as CrossEntropyOp>::cross_entropy(
        scores.into_dispatch(),
        targets.into_dispatch(),
    ))
}

/// The operator behind [`cross_entropy()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait CrossEntropyOp: Backend {
    /// See [`cross_entropy()`].
    fn cross_entropy(scores: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self>;
}

impl CrossEntropyOp for Flex {
    fn cross_entropy(scores: FlexTensor, targets: FlexTensor) -> FlexTensor {
        <Self as CrossEntropyKernel>::forward(scores, targets)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl CrossEntropyOp for burn::backend::Cube {
    fn cross_entropy(scores: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        <Self as CrossEntropyKernel>::forward(scores, targets)
    }
}

impl<B: CrossEntropyKernel, C: CheckpointStrategy> CrossEntropyOp for Autodiff<B, C> {
    fn cross_entropy(scores: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        let (scores, node) = scores.into_parts();
        let loss = <B as CrossEntropyKernel>::forward(scores.clone(), targets.clone());
        match CrossEntropyBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((scores, targets), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        }
    }
}

#[derive(Debug)]
struct CrossEntropyBackward;

impl<B: CrossEntropyKernel> Backward<B, 1> for CrossEntropyBackward {
    type State = (FloatTensor<B>, IntTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (scores, targets) = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let grad = <B as CrossEntropyKernel>::backward(scores, targets, grad);
            grads.register::<B>(parent.id, grad);
        }
    }
}

/// The two passes on one backend. The bodies given here are composed of tensor primitives and
/// serve every backend; Flex has kernels.
pub(crate) trait CrossEntropyKernel: Backend {
    /// The mean cross-entropy, `[1]`.
    fn forward(scores: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        composed_forward::<Self>(scores, targets)
    }

    /// `(softmax(scores) - one_hot(targets)) / batch`, times the gradient of the mean.
    fn backward(
        scores: FloatTensor<Self>,
        targets: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        composed_backward::<Self>(scores, targets, grad)
    }
}

fn composed_forward<B: Backend>(scores: FloatTensor<B>, targets: IntTensor<B>) -> FloatTensor<B> {
    let batch = scores.shape()[0];
    let logarithms = <B as ActivationOps<B>>::log_softmax(scores, 1);
    let targets = B::int_reshape(targets, Shape::new([batch, 1]));
    let picked = B::float_gather(1, logarithms, targets);
    B::float_neg(B::float_mean(picked))
}

fn composed_backward<B: Backend>(
    scores: FloatTensor<B>,
    targets: IntTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let shape = scores.shape();
    let (device, dtype) = (scores.device(), scores.dtype());
    let batch = shape[0];
    let probabilities = B::float_exp(<B as ActivationOps<B>>::log_softmax(scores, 1));
    let targets = B::int_reshape(targets, Shape::new([batch, 1]));
    let ones = B::float_ones(Shape::new([batch, 1]), &device, dtype.into());
    let difference = B::float_scatter(
        1,
        probabilities,
        targets,
        B::float_neg(ones),
        IndexingUpdateOp::Add,
    );
    let grad = B::float_expand(B::float_reshape(grad, Shape::new([1, 1])), shape);
    B::float_div_scalar(B::float_mul(difference, grad), (batch as f64).into())
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl CrossEntropyKernel for burn::backend::Cube {}

/// The greatest score of a row, and the sum of the exponentials of what the others lack to it.
fn row_sum(row: &[f32]) -> (f32, f64) {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = row
        .iter()
        .map(|score| f64::from((score - greatest).exp()))
        .sum();
    (greatest, sum)
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

impl CrossEntropyKernel for Flex {
    fn forward(scores: FlexTensor, targets: FlexTensor) -> FlexTensor {
        let dtype = scores.dtype();
        let scores = flex::contiguous(flex::to_f32(scores));
        let classes = scores.layout().shape()[1];
        let targets = places(targets, classes);
        let rows = scores.storage::<f32>().chunks_exact(classes.max(1));
        let losses = rows.zip(&targets).map(|(row, &target)| {
            let (greatest, sum) = row_sum(row);
            sum.ln() - f64::from(row[target] - greatest)
        });
        let mean = losses.sum::<f64>() / targets.len() as f64;
        flex::to_dtype(flex::from_slice(&[mean as f32]), dtype)
    }

    fn backward(scores: FlexTensor, targets: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let dtype = scores.dtype();
        let scores = flex::contiguous(flex::to_f32(scores));
        let classes = scores.layout().shape()[1];
        let targets = places(targets, classes);
        let share = flex::to_vec(&grad)[0] / targets.len() as f32;
        let mut output = Buffer::new(scores.layout().num_elements());
        let rows = scores.storage::<f32>().chunks_exact(classes.max(1));
        let outputs = output.chunks_exact_mut(classes.max(1));
        for ((output, row), target) in outputs.zip(rows).zip(targets) {
            let (greatest, sum) = row_sum(row);
            for (output, score) in output.iter_mut().zip(row) {
                *output = ((score - greatest).exp() / sum as f32) * share;
            }
            output[target] -= share;
        }
        flex::to_dtype(flex::from_buffer(output, scores.layout().clone()), dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

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

    #[test]
    fn the_passes_agree_with_tensor_primitives() {
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
        assert_close(
            <Flex as CrossEntropyKernel>::forward(scores(), targets()),
            composed_forward::<Flex>(scores(), targets()),
        );
        let grad = || flex::from_slice(&[3.0]);
        assert_close(
            <Flex as CrossEntropyKernel>::backward(scores(), targets(), grad()),
            composed_backward::<Flex>(scores(), targets(), grad()),
        );
    }
}
