//! Concatenation.

use burn::tensor::Tensor;

use crate::ops::quantization::Operand;

/// Quantized operands, one or more, joined along `dim`; their shapes are equal but for that
/// dimension.
pub fn concat<const D: usize>(operands: Vec<Operand<D>>, dim: usize) -> Tensor<D> {
    Tensor::cat(operands.into_iter().map(Operand::quantized).collect(), dim)
}
