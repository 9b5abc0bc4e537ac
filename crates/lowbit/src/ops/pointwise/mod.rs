//! Operators that look at one number at a time, and joins of branches.

pub(crate) mod activation;
pub(crate) mod add;
mod concat;
mod elu;
pub(crate) mod gelu;
mod hard_sigmoid;
mod hardtanh;
mod leaky_relu;
mod mul;
mod posit_activation;
mod prelu;
mod shrink;
mod sigmoid;

pub use activation::{Activation, relu, relu6};
pub use add::add;
pub use concat::concat;
pub use elu::{celu, elu, glu, log_sigmoid, selu, softplus, softsign};
pub use gelu::{gelu, gelu_approximate, mish, silu};
pub use hard_sigmoid::{hard_sigmoid, hard_swish};
pub use hardtanh::hardtanh;
pub use leaky_relu::leaky_relu;
pub use mul::mul;
pub use posit_activation::posit_activation;
pub use prelu::prelu;
pub use shrink::{hard_shrink, shrink, soft_shrink, tanhshrink, threshold, thresholded_relu};
pub use sigmoid::{sigmoid, tanh};
