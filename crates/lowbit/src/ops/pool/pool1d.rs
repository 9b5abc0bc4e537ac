//! Pooling of sequences.

use burn::tensor::Tensor;
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

/// The largest value under each window. `[batch, channels, length]` in and out.
pub fn max_pool1d(x: Tensor<3>, options: MaxPoolOptions<1>) -> Tensor<3> {
    burn::tensor::module::max_pool1d(x, options)
}

/// The mean under each window. `[batch, channels, length]` in and out.
pub fn avg_pool1d(x: Tensor<3>, options: AvgPoolOptions<1>) -> Tensor<3> {
    burn::tensor::module::avg_pool1d(x, options)
}

/// The mean over windows chosen so that the result is `[batch, channels, output_size]`.
pub fn adaptive_avg_pool1d(x: Tensor<3>, output_size: usize) -> Tensor<3> {
    burn::tensor::module::adaptive_avg_pool1d(x, output_size)
}
