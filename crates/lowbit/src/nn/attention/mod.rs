//! Attention.

mod cross;
mod dot_product;
mod heads;
mod multi_head;

pub use cross::{CrossAttention, CrossAttentionConfig};
pub use dot_product::{DotProductAttention, DotProductAttentionConfig, KeyValues};
pub use multi_head::{MhaInput, MhaOutput, MultiHeadAttention, MultiHeadAttentionConfig};
