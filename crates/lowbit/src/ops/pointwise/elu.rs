//! Exponential units and their relatives, composed of Burn's functions.

use burn::tensor::Tensor;

/// `x` where `x > 0`, `alpha (e^x - 1)` elsewhere. Any shape.
pub fn elu<const D: usize>(x: Tensor<D>, alpha: f64) -> Tensor<D> {
    burn::tensor::activation::elu(x, alpha)
}

/// `x` where `x > 0`, `alpha (e^(x / alpha) - 1)` elsewhere. Any shape.
pub fn celu<const D: usize>(x: Tensor<D>, alpha: f64) -> Tensor<D> {
    burn::tensor::activation::celu(x, alpha)
}

/// [`elu`] with the scale and the alpha that keep mean 0 and variance 1. Any shape.
pub fn selu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::selu(x)
}

/// `ln(1 + e^(beta x)) / beta`, and `x` where `beta x > threshold`. Any shape.
pub fn softplus<const D: usize>(x: Tensor<D>, beta: f64, threshold: f64) -> Tensor<D> {
    burn::tensor::activation::softplus_with_threshold(x, beta, threshold)
}

/// `x / (1 + |x|)`. Any shape.
pub fn softsign<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::softsign(x)
}

/// `a sigmoid(b)` of the first half `a` and the second half `b` of the dimension `dim`, which counts from
/// the end where it is negative.
///
/// # Panics
/// If there is no such dimension, or its size is odd.
pub fn glu<const D: usize>(x: Tensor<D>, dim: isize) -> Tensor<D> {
    burn::tensor::activation::glu(x, dim)
}

/// `-ln(1 + e^-x)`. Any shape.
pub fn log_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::log_sigmoid(x)
}
