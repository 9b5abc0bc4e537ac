//! Features by heads.

use burn::tensor::Tensor;

/// `[batch, heads, length, features]` of `[batch, length, heads * features]`.
pub(super) fn split(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, length, features] = x.dims();
    x.reshape([batch, length, heads, features / heads])
        .swap_dims(1, 2)
}
