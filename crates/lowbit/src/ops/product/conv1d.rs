//! One-dimensional convolution: the two-dimensional one of images one pixel high.
//!
//! Burn's own one-dimensional gradient of the weight is wrong for several groups and a stride that
//! leaves pixels over (`conv1d_weight_grad_groups` of burn-backend 0.22.1 takes the wrong taps; the
//! two-dimensional form cuts them off). Kernels and roundings are those of two dimensions as well.

use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use super::conv2d::Conv2d;
use crate::ops::product::{self, Operands, Parts, ProductSums, accumulated};
use crate::ops::quantization::Operand;

/// One-dimensional convolution (cross-correlation) of quantized operands.
///
/// Input and weight are quantized as they are read, where their quantization looks at one number at
/// a time.
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
    conv1d_of(Operands::new(input, weight, bias), options, None)
}

/// [`conv1d`] whose sums are made as `sums` says, as
/// [`conv2d_with_sums`](crate::ops::conv2d_with_sums()) makes them.
///
/// # Shapes
/// As [`conv1d`].
pub fn conv1d_with_sums(
    input: Operand<3>,
    weight: Operand<3>,
    bias: Option<Operand<1>>,
    options: ConvOptions<1>,
    sums: impl Into<ProductSums>,
) -> Tensor<3> {
    conv1d_of(
        Operands::new(input, weight, bias),
        options,
        Some(sums.into()),
    )
}

/// The convolution of operands, with sums as they are said or in float.
pub(crate) fn conv1d_of(
    operands: Operands<3, 3>,
    options: ConvOptions<1>,
    sums: Option<ProductSums>,
) -> Tensor<3> {
    let parts = one_pixel_high(operands.into_parts());
    let output = match sums {
        None => product::product(Conv2d(one_row(options)), parts),
        Some(sums) => product::product(accumulated::Convolution::new(options, sums), parts),
    };
    output.squeeze_dim(2)
}

/// The options of images of one row.
fn one_row(options: ConvOptions<1>) -> ConvOptions<2> {
    ConvOptions {
        stride: [1, options.stride[0]],
        padding: [(0, 0), options.padding[0]],
        dilation: [1, options.dilation[0]],
        groups: options.groups,
    }
}

/// The operands with a height of one. What looks at dimensions or at several numbers at a time was done
/// before that.
pub(super) fn one_pixel_high(parts: Parts<3, 3>) -> Parts<4, 4> {
    Parts {
        input: parts.input.with(|input| input.unsqueeze_dim(2)),
        weight: parts.weight.with(|weight| weight.unsqueeze_dim(2)),
        bias: parts.bias,
        error: parts.error,
        backward: parts.backward,
    }
}
