//! Pooling.

use burn::tensor::Tensor;
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

/// The largest value under each window. `[batch, channels, height, width]` in and out.
pub fn max_pool2d(x: Tensor<4>, options: MaxPoolOptions<2>) -> Tensor<4> {
    burn::tensor::module::max_pool2d(x, options)
}

/// The mean under each window. `[batch, channels, height, width]` in and out.
pub fn avg_pool2d(x: Tensor<4>, options: AvgPoolOptions<2>) -> Tensor<4> {
    burn::tensor::module::avg_pool2d(x, options)
}

/// The mean over windows chosen so that the result is `[batch, channels, height, width]` with the
/// given height and width.
pub fn adaptive_avg_pool2d(x: Tensor<4>, output_size: [usize; 2]) -> Tensor<4> {
    burn::tensor::module::adaptive_avg_pool2d(x, output_size)
}
