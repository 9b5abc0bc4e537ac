//! Softmax, composed of Burn's functions.

use burn::tensor::Tensor;

/// `e^x_i / sum_j e^x_j` along dimension `dim`. Any shape.
pub fn softmax<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    burn::tensor::activation::softmax(x, dim)
}

/// `e^x_i / (1 + sum_j e^x_j)` along dimension `dim`. Any shape.
pub fn quiet_softmax<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    burn::tensor::activation::quiet_softmax(x, dim)
}
