//! Telling a recording which tensor of which layer passes by.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;

use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator};

/// `x` itself, of which a recording says that it is the tensor in `slot` of the layer at the path
/// `layer`. Any shape.
pub(crate) fn mark<const D: usize>(x: Tensor<D>, layer: &str, slot: &str) -> Tensor<D> {
    let mark = Mark {
        layer: layer.into(),
        slot: slot.into(),
    };
    operator::run(mark, vec![x.into_dispatch()])
}

/// The operator behind [`mark()`].
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) layer: String,
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
