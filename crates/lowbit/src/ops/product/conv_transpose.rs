//! Transposed convolution.

use burn::tensor::Tensor;
use burn::tensor::ops::ConvTransposeOptions;

use crate::ops::quantization::Operand;

/// One-dimensional transposed convolution of quantized operands.
///
/// # Shapes
/// - `input`: `[batch, channels_in, length]`
/// - `weight`: `[channels_in, channels_out / groups, kernel_size]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, length_out]`
pub fn conv_transpose1d(
    input: Operand<3>,
    weight: Operand<3>,
    bias: Option<Operand<1>>,
    options: ConvTransposeOptions<1>,
) -> Tensor<3> {
    burn::tensor::module::conv_transpose1d(
        input.quantized(),
        weight.quantized(),
        bias.map(Operand::quantized),
        options,
    )
}

/// Two-dimensional transposed convolution of quantized operands.
///
/// # Shapes
/// - `input`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_in, channels_out / groups, kernel_height, kernel_width]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, height_out, width_out]`
pub fn conv_transpose2d(
    input: Operand<4>,
    weight: Operand<4>,
    bias: Option<Operand<1>>,
    options: ConvTransposeOptions<2>,
) -> Tensor<4> {
    burn::tensor::module::conv_transpose2d(
        input.quantized(),
        weight.quantized(),
        bias.map(Operand::quantized),
        options,
    )
}

/// Three-dimensional transposed convolution of quantized operands.
///
/// # Shapes
/// - `input`: `[batch, channels_in, depth, height, width]`
/// - `weight`: `[channels_in, channels_out / groups, kernel_depth, kernel_height, kernel_width]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, depth_out, height_out, width_out]`
pub fn conv_transpose3d(
    input: Operand<5>,
    weight: Operand<5>,
    bias: Option<Operand<1>>,
    options: ConvTransposeOptions<3>,
) -> Tensor<5> {
    burn::tensor::module::conv_transpose3d(
        input.quantized(),
        weight.quantized(),
        bias.map(Operand::quantized),
        options,
    )
}
