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
    let (input, options) = with_equal_sides(input.quantized(), options);
    burn::tensor::module::conv3d(
        input,
        weight.quantized(),
        bias.map(Operand::quantized),
        options,
    )
}

/// Burn has no three-dimensional convolution with more padding on one side than on the other: what
/// one side has more is put around the input before.
fn with_equal_sides(input: Tensor<5>, mut options: ConvOptions<3>) -> (Tensor<5>, ConvOptions<3>) {
    let equal = options.padding.map(|(before, after)| before.min(after));
    let more = [0, 1, 2].map(|d| {
        let (before, after) = options.padding[d];
        (before - equal[d], after - equal[d])
    });
    options.padding = equal.map(|both| (both, both));
    match more {
        [(0, 0), (0, 0), (0, 0)] => (input, options),
        more => (input.pad(more, 0.0), options),
    }
}
