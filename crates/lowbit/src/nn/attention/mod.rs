//! Attention.

mod cross;
mod heads;
mod multi_head;

pub use cross::{CrossAttention, CrossAttentionConfig};
pub use multi_head::{MhaInput, MhaOutput, MultiHeadAttention, MultiHeadAttentionConfig};
