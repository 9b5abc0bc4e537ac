//! Pooling of volumes.

use burn::tensor::Tensor;
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

use crate::ops::pool::{avg_pool1d, avg_pool2d, max_pool1d, max_pool2d};

/// The largest value under each window: of those along the depth, of those in each plane. `[batch,
/// channels, depth, height, width]` in and out.
///
/// Composed of the pooling of planes and that of sequences, which is exact.
pub fn max_pool3d(x: Tensor<5>, options: MaxPoolOptions<3>) -> Tensor<5> {
    let of = |i: usize| {
        let (size, stride) = (options.kernel_size[i], options.stride[i]);
        (size, stride, options.padding[i], options.dilation[i])
    };
    let (depth, [height, width]) = (of(0), [of(1), of(2)]);
    let planes = MaxPoolOptions::new([height.0, width.0])
        .with_stride([height.1, width.1])
        .with_padding_pairs([height.2, width.2])
        .with_dilation([height.3, width.3])
        .with_ceil_mode(options.ceil_mode);
    let rows = MaxPoolOptions::new([depth.0])
        .with_stride([depth.1])
        .with_padding_pairs([depth.2])
        .with_dilation([depth.3])
        .with_ceil_mode(options.ceil_mode);
    planes_then_depth(
        x,
        |planes_of| max_pool2d(planes_of, planes),
        |rows_of| max_pool1d(rows_of, rows),
    )
}

/// The mean under each window. `[batch, channels, depth, height, width]` in and out.
///
/// Composed of the means of planes and those of sequences: a window's divisor is the product of
/// those along each dimension. Sums are rounded twice.
pub fn avg_pool3d(x: Tensor<5>, options: AvgPoolOptions<3>) -> Tensor<5> {
    let of = |i: usize| {
        (
            options.kernel_size[i],
            options.stride[i],
            options.padding[i],
        )
    };
    let (depth, [height, width]) = (of(0), [of(1), of(2)]);
    let planes = AvgPoolOptions::new([height.0, width.0])
        .with_stride([height.1, width.1])
        .with_padding_pairs([height.2, width.2])
        .with_count_include_pad(options.count_include_pad)
        .with_ceil_mode(options.ceil_mode);
    let rows = AvgPoolOptions::new([depth.0])
        .with_stride([depth.1])
        .with_padding_pairs([depth.2])
        .with_count_include_pad(options.count_include_pad)
        .with_ceil_mode(options.ceil_mode);
    planes_then_depth(
        x,
        |planes_of| avg_pool2d(planes_of, planes),
        |rows_of| avg_pool1d(rows_of, rows),
    )
}

/// Pools every plane of a volume, `[batch, channels depth, height, width]`, and then what is above
/// each other, `[batch, channels height width, depth]`.
fn planes_then_depth(
    x: Tensor<5>,
    planes: impl FnOnce(Tensor<4>) -> Tensor<4>,
    depth: impl FnOnce(Tensor<3>) -> Tensor<3>,
) -> Tensor<5> {
    let [batch, channels, layers, height, width] = x.dims();
    let x = planes(x.reshape([batch, channels * layers, height, width]));
    let [_, _, height, width] = x.dims();
    let x = x.reshape([batch, channels, layers, height * width]);
    let x = x
        .swap_dims(2, 3)
        .reshape([batch, channels * height * width, layers]);
    let x = depth(x);
    let layers = x.dims()[2];
    let x = x.reshape([batch, channels, height * width, layers]);
    let shape = [batch, channels, layers, height, width];
    x.swap_dims(2, 3).reshape(shape)
}

/// The mean over windows chosen so that the result is `[batch, channels, depth, height, width]` with
/// the given depth, height and width.
pub fn adaptive_avg_pool3d(x: Tensor<5>, output_size: [usize; 3]) -> Tensor<5> {
    burn::tensor::module::adaptive_avg_pool3d(x, output_size)
}
