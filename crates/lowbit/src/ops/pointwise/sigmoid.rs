//! Logistic function and hyperbolic tangent.

use burn::tensor::Tensor;

/// `1 / (1 + e^-x)`. Any shape.
pub fn sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::sigmoid(x)
}

/// `tanh(x)`. Any shape.
pub fn tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::tanh(x)
}
