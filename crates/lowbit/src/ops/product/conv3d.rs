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
    let (input, padding) = with_equal_sides(input.quantized(), options.padding);
    let options = ConvOptions::new(options.stride, padding, options.dilation, options.groups);
    burn::tensor::module::conv3d(
        input,
        weight.quantized(),
        bias.map(Operand::quantized),
        options,
    )
}

/// Burn has no such convolution with more padding on one side than on the other: what one side has more
/// is put around the input, `[batch, channels, ...]`, before.
pub(super) fn with_equal_sides<const D: usize, const N: usize>(
    input: Tensor<D>,
    padding: [(usize, usize); N],
) -> (Tensor<D>, [usize; N]) {
    let equal = padding.map(|(before, after)| before.min(after));
    let more: [(usize, usize); N] = std::array::from_fn(|d| {
        let (before, after) = padding[d];
        (before - equal[d], after - equal[d])
    });
    match more.iter().all(|&sides| sides == (0, 0)) {
        true => (input, equal),
        false => (input.pad(more, 0.0), equal),
    }
}
