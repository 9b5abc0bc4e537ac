//! Pooling of volumes.

use burn::tensor::Tensor;

/// The mean over windows chosen so that the result is `[batch, channels, depth, height, width]` with
/// the given depth, height and width.
pub fn adaptive_avg_pool3d(x: Tensor<5>, output_size: [usize; 3]) -> Tensor<5> {
    burn::tensor::module::adaptive_avg_pool3d(x, output_size)
}
