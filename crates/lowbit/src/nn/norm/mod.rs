//! Normalization, and its folding into the layer before it.

mod batch;
mod fold;
mod statistics;

pub use batch::{BatchNorm, BatchNormConfig};
pub use fold::{Normalization, conv_norm, conv_norm_relu};
pub use statistics::estimate_statistics;
pub(crate) use statistics::has_statistics;
