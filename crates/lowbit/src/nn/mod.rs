//! Layers: those of `burn::nn`, with the same names, builders and parameter paths, and a slot of
//! quantization for each of their tensors.

mod adaptive_avg_pool2d;
mod add;
mod avg_pool2d;
mod batch_norm;
mod conv2d;
mod fold;
mod linear;
mod max_pool2d;
mod padding;
mod relu;
mod relu6;

pub use adaptive_avg_pool2d::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
pub use add::{Add, AddConfig};
pub use avg_pool2d::{AvgPool2d, AvgPool2dConfig};
pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use conv2d::{Conv2d, Conv2dConfig};
pub use fold::{Normalization, conv_norm_relu};
pub use linear::{Linear, LinearConfig};
pub use max_pool2d::{MaxPool2d, MaxPool2dConfig};
pub use relu::{Relu, ReluConfig};
pub use relu6::{Relu6, Relu6Config};
