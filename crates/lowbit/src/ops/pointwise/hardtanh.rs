//! Clamp to an interval.

use burn::tensor::Tensor;

/// `min(max(x, min), max)`. Any shape. Of the gradient, what lies outside gets none.
pub fn hardtanh<const D: usize>(x: Tensor<D>, min: f64, max: f64) -> Tensor<D> {
    burn::tensor::activation::hardtanh(x, min, max)
}
