//! Normalization, and its folding into the layer before it.

mod batch;
mod fold;
mod group;
mod instance;
mod layer;
mod one_pass;
mod parts;
mod rms;
mod statistics;

pub use batch::{BatchNorm, BatchNormConfig};
pub use fold::{Normalization, conv_norm, conv_norm_add, conv_norm_relu};
pub use group::{GroupNorm, GroupNormConfig};
pub use instance::{InstanceNorm, InstanceNormConfig};
pub use layer::{LayerNorm, LayerNormConfig};
pub use rms::{RmsNorm, RmsNormConfig};
pub use statistics::estimate_statistics;
pub(crate) use statistics::has_statistics;
