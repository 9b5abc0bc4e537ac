//! Three-dimensional convolution.

use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use crate::ops::quantization::Operand;

/// Three-dimensional convolution (cross-correlation) of quantized operands.
///
/// # Shapes
/// - `input`: `[batch, channels_in, depth, height, width]`
/// - `weight`: `[channels_out, channels_in / groups, kernel_depth, kernel_height, kernel_width]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, depth_out, height_out, width_out]`
pub fn conv3d(
    input: Operand<5>,
    weight: Operand<5>,
    bias: Option<Operand<1>>,
    options: ConvOptions<3>,
) -> Tensor<5> {
    burn::tensor::module::conv3d(
        input.quantized(),
        weight.quantized(),
        bias.map(Operand::quantized),
        options,
    )
}
