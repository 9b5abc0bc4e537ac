//! Activation functions.

use burn::tensor::Tensor;

/// `max(x, 0)`. Any shape.
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::relu(x)
}

/// `min(max(x, 0), 6)`. Any shape.
pub fn relu6<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clamp(0.0, 6.0)
}
