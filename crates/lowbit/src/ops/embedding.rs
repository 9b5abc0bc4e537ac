//! Look-up in a table of vectors.

use burn::tensor::{Int, Tensor};

use crate::ops::quantization::Operand;

/// The rows of a quantized table at the given indices.
///
/// # Shapes
/// - `weight`: `[rows, d_model]`
/// - `indices`: `[batch, length]`
/// - result: `[batch, length, d_model]`
pub fn embedding(weight: Operand<2>, indices: Tensor<2, Int>) -> Tensor<3> {
    burn::tensor::module::embedding(weight.quantized(), indices)
}
