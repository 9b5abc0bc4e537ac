//! Addition.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::accumulate::Accumulate;
use super::profile::timed;
use super::{Operand, flex};

/// The sum of two quantized operands of one shape.
///
/// # Panics
/// If the shapes differ.
pub fn add<const D: usize>(left: Operand<D>, right: Operand<D>) -> Tensor<D> {
    let (left, right) = (left.quantized(), right.quantized());
    assert_eq!(left.dims(), right.dims(), "the shapes to add differ");
    Tensor::from_dispatch(<Dispatch as AddOp>::sum(
        left.into_dispatch(),
        right.into_dispatch(),
    ))
}

/// The operator behind [`add()`], routed to the backend of its inputs.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait AddOp: Backend {
    /// The sum of two tensors of one shape.
    fn sum(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl AddOp for Flex {
    fn sum(left: FlexTensor, right: FlexTensor) -> FlexTensor {
        timed("add", || flex::sum(left, right))
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl AddOp for burn::backend::Cube {
    fn sum(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(left, right)
    }
}

impl<B: AddOp + Accumulate, C: CheckpointStrategy> AddOp for Autodiff<B, C> {
    fn sum(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        let (left, left_node) = left.into_parts();
        let (right, right_node) = right.into_parts();
        AddBackward
            .prepare::<C>([left_node, right_node])
            .compute_bound()
            .stateless(B::sum(left, right))
    }
}

#[derive(Debug)]
struct AddBackward;

impl<B: AddOp + Accumulate> Backward<B, 2> for AddBackward {
    type State = ();

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        B::add(grads, &ops, 0, grad.clone());
        B::add(grads, &ops, 1, grad);
    }
}
