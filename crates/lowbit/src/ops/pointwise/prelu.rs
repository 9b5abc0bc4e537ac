//! Rectifier with learned slopes below zero.

use burn::tensor::Tensor;

use crate::ops::quantization::Operand;

/// `x` where `x >= 0`, `alpha x` below, with a quantized slope.
///
/// # Shapes
/// - `x` and the result: `[batch, channels, ...]`, or any with one slope
/// - `alpha`: `[channels]` or `[1]`
pub fn prelu<const D: usize>(x: Tensor<D>, alpha: Operand<1>) -> Tensor<D> {
    burn::tensor::activation::prelu(x, alpha.quantized())
}
