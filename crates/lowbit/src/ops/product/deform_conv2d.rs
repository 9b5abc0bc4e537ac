//! Deformable convolution.

use burn::tensor::Tensor;
use burn::tensor::ops::{ConvOptions, DeformConvOptions};

use super::conv3d::with_equal_sides;
use crate::ops::quantization::Operand;

/// Two-dimensional deformable convolution of quantized operands: each place of the kernel reads the input
/// beside where a convolution would, by an offset of its own at each pixel of the result, between pixels
/// by bilinear interpolation, times a `mask` where there is one (Dai et al., arXiv 1703.06211, equation 2;
/// Zhu et al., arXiv 1811.11168, equation 1). `options.groups` are those of the weight.
///
/// # Shapes
/// - `input`: `[batch, channels_in, height, width]`
/// - `offset`: `[batch, 2 * offset_groups * kernel_height * kernel_width, height_out, width_out]`, rows
///   and columns in turn
/// - `weight`: `[channels_out, channels_in / groups, kernel_height, kernel_width]`
/// - `mask`: `[batch, offset_groups * kernel_height * kernel_width, height_out, width_out]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, height_out, width_out]`
pub fn deform_conv2d(
    [input, offset, weight]: [Operand<4>; 3],
    mask: Option<Operand<4>>,
    bias: Option<Operand<1>>,
    options: ConvOptions<2>,
    offset_groups: usize,
) -> Tensor<4> {
    let (input, padding) = with_equal_sides(input.quantized(), options.padding);
    let (stride, dilation) = (options.stride, options.dilation);
    burn::tensor::module::deform_conv2d(
        input,
        offset.quantized(),
        weight.quantized(),
        mask.map(Operand::quantized),
        bias.map(Operand::quantized),
        DeformConvOptions::new(stride, padding, dilation, options.groups, offset_groups),
    )
}
