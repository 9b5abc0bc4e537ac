//! Functions that make small numbers zero, or smaller.

use burn::tensor::Tensor;

/// `x` where `|x| > lambda`, 0 elsewhere. Any shape.
pub fn hard_shrink<const D: usize>(x: Tensor<D>, lambda: f64) -> Tensor<D> {
    burn::tensor::activation::hard_shrink(x, lambda)
}

/// `x - lambda` where `x > lambda`, `x + lambda` where `x < -lambda`, 0 elsewhere. Any shape.
pub fn soft_shrink<const D: usize>(x: Tensor<D>, lambda: f64) -> Tensor<D> {
    burn::tensor::activation::soft_shrink(x, lambda)
}

/// `x - bias` where `x > lambda`, `x + bias` where `x < -lambda`, 0 elsewhere. Any shape.
pub fn shrink<const D: usize>(x: Tensor<D>, lambda: f64, bias: f64) -> Tensor<D> {
    burn::tensor::activation::shrink(x, lambda, bias)
}

/// `x - tanh(x)`. Any shape.
pub fn tanhshrink<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::tanhshrink(x)
}

/// `x` where `x > threshold`, `value` elsewhere. Any shape.
pub fn threshold<const D: usize>(x: Tensor<D>, threshold: f64, value: f64) -> Tensor<D> {
    burn::tensor::activation::threshold(x, threshold, value)
}

/// `x` where `x > alpha`, 0 elsewhere. Any shape.
pub fn thresholded_relu<const D: usize>(x: Tensor<D>, alpha: f64) -> Tensor<D> {
    burn::tensor::activation::thresholded_relu(x, alpha)
}
