//! Matrix product with a weight, plus bias.

use burn::tensor::Tensor;

use super::Operand;

/// `input * weight + bias` of quantized operands.
///
/// # Shapes
/// - `input`: `[..., d_input]`
/// - `weight`: `[d_input, d_output]`
/// - `bias`: `[d_output]`
/// - result: `[..., d_output]`
pub fn linear<const D: usize>(
    input: Operand<D>,
    weight: Operand<2>,
    bias: Option<Operand<1>>,
) -> Tensor<D> {
    burn::tensor::module::linear(
        input.quantized(),
        weight.quantized(),
        bias.map(Operand::quantized),
    )
}
