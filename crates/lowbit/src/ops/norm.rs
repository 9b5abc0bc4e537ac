//! Batch normalization.

use burn::tensor::Tensor;
pub use burn::tensor::module::BatchNormTrainOutput;

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, per channel, with given statistics.
///
/// # Shapes
/// - `x` and the result: `[batch, channels, ...]`
/// - the others: `[channels]`
pub fn batch_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    burn::tensor::module::batch_norm(x, gamma, beta, mean, variance, epsilon)
}

/// The same with the statistics of the batch, which are returned (biased variance).
///
/// # Shapes
/// As [`batch_norm`].
pub fn batch_norm_train<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> BatchNormTrainOutput<D> {
    burn::tensor::module::batch_norm_train(x, gamma, beta, epsilon)
}
