//! One-dimensional convolution.

use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use crate::ops::quantization::Operand;

/// One-dimensional convolution (cross-correlation) of quantized operands.
///
/// # Shapes
/// - `input`: `[batch, channels_in, length]`
/// - `weight`: `[channels_out, channels_in / groups, kernel_size]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, length_out]`
pub fn conv1d(
    input: Operand<3>,
    weight: Operand<3>,
    bias: Option<Operand<1>>,
    options: ConvOptions<1>,
) -> Tensor<3> {
    burn::tensor::module::conv1d(
        input.quantized(),
        weight.quantized(),
        bias.map(Operand::quantized),
        options,
    )
}
