//! Convolution.

use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use super::Operand;

/// Two-dimensional convolution (cross-correlation) of quantized operands.
///
/// # Shapes
/// - `input`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_out, channels_in / groups, kernel_height, kernel_width]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, height_out, width_out]`
pub fn conv2d(
    input: Operand<4>,
    weight: Operand<4>,
    bias: Option<Operand<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    burn::tensor::module::conv2d(
        input.quantized(),
        weight.quantized(),
        bias.map(Operand::quantized),
        options,
    )
}
