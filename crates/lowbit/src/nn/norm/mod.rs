//! Normalization, and its folding into the layer before it.

mod batch;
mod fold;

pub use batch::{BatchNorm, BatchNormConfig};
pub use fold::{Normalization, conv_norm_relu};
