//! Rectifiers, clamps and sigmoids.

mod hardtanh;
mod leaky_relu;
mod relu;
mod relu6;
mod sigmoid;
mod tanh;

pub use hardtanh::{Hardtanh, HardtanhConfig};
pub use leaky_relu::{LeakyRelu, LeakyReluConfig};
pub use relu::{Relu, ReluConfig};
pub use relu6::{Relu6, Relu6Config};
pub use sigmoid::{Sigmoid, SigmoidConfig};
pub use tanh::{Tanh, TanhConfig};
