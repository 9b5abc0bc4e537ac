//! Sigmoids of straight lines.

use burn::tensor::Tensor;

/// `min(max(alpha x + beta, 0), 1)`. Any shape.
pub fn hard_sigmoid<const D: usize>(x: Tensor<D>, alpha: f64, beta: f64) -> Tensor<D> {
    burn::tensor::activation::hard_sigmoid(x, alpha, beta)
}

/// `x min(max(x / 6 + 1 / 2, 0), 1)`. Any shape.
pub fn hard_swish<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::hard_swish(x)
}
