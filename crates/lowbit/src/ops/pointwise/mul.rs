//! Multiplication.

use burn::tensor::Tensor;

use crate::ops::quantization::Operand;

/// The product of two quantized operands of one shape, element by element.
pub fn mul<const D: usize>(left: Operand<D>, right: Operand<D>) -> Tensor<D> {
    left.quantized() * right.quantized()
}
