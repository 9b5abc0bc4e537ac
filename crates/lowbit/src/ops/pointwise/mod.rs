//! Operators that look at one number at a time, and joins of branches.

pub(crate) mod activation;
pub(crate) mod add;
mod concat;
mod hardtanh;
mod leaky_relu;
mod mul;
mod posit_activation;
mod sigmoid;

pub use activation::{Activation, relu, relu6};
pub use add::add;
pub use concat::concat;
pub use hardtanh::hardtanh;
pub use leaky_relu::leaky_relu;
pub use mul::mul;
pub use posit_activation::posit_activation;
pub use sigmoid::{sigmoid, tanh};
