//! Layer normalization in one pass: Burn's.

use burn::tensor::{DType, FloatDType, Tensor};

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` over the last dimension, with the biased
/// variance (Ba et al., arXiv 1607.06450). Numbers of 16 bits with 5 in the exponent are widened, as
/// `burn::nn::LayerNorm` does.
///
/// # Shapes
/// - `x` and the result: `[..., d_model]`
/// - `gamma`, `beta`: `[d_model]`
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    use burn::tensor::module::layer_norm;
    if x.dtype() != DType::F16 {
        return layer_norm(x, gamma, beta, epsilon);
    }
    let wide = FloatDType::F32;
    let beta = beta.map(|beta| beta.cast(wide));
    layer_norm(x.cast(wide), gamma.cast(wide), beta, epsilon).cast(FloatDType::F16)
}
