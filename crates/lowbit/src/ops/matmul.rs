//! Matrix product of two activations, composed of a quantization of each and Burn's product.

use burn::tensor::Tensor;

use crate::ops::quantization::Operand;

/// The product of two quantized operands, matrix by matrix.
///
/// # Shapes
/// - `left`: `[..., rows, inner]`
/// - `right`: `[..., inner, columns]`
/// - result: `[..., rows, columns]`
pub fn matmul<const D: usize>(left: Operand<D>, right: Operand<D>) -> Tensor<D> {
    left.quantized().matmul(right.quantized())
}
