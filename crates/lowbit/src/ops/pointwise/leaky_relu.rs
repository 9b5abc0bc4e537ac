//! Rectifier with a slope below zero.

use burn::tensor::Tensor;

/// `x` where `x >= 0`, `negative_slope * x` below. Any shape.
pub fn leaky_relu<const D: usize>(x: Tensor<D>, negative_slope: f64) -> Tensor<D> {
    burn::tensor::activation::leaky_relu(x, negative_slope)
}
