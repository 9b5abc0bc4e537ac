//! Telling a recording which tensor of which layer passes by.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;

use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator};

/// `x` itself, of which a recording says where it passes. Any shape.
pub(crate) fn mark<const D: usize>(x: Tensor<D>, mark: Mark) -> Tensor<D> {
    operator::run(mark, vec![x.into_dispatch()])
}

/// The operator behind [`mark()`]: the tensor is that in a slot of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// The layer's path.
    pub(crate) layer: String,
    pub(crate) layer_type: String,
    pub(crate) slot: String,
}

impl Operator<1> for Mark {
    fn save_inputs<B: Backend>(&self, _inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        inputs.tensors
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        [Some(incoming.grad)]
    }
}
