//! Operators. The layers call these and nothing else where a quantized version could differ.
//!
//! An operator that reads operands takes each with its [`Quantization`], so that rounding can be
//! part of the pass that reads it. The quantizing operators are backend extensions: a hand-written
//! backward on `Autodiff`, kernels on Flex, and bodies composed of tensor primitives elsewhere.

mod activation;
mod add;
mod composed;
mod conv;
mod dorefa;
mod fake_quantize;
mod flex;
mod fused;
mod kernel;
mod linear;
mod norm;
mod operand;
mod pool;
mod profile;
mod tanh;
mod trained_threshold;
mod watch;

pub use activation::{Activation, relu, relu6};
pub use add::add;
pub use conv::conv2d;
pub use dorefa::dorefa_weight;
pub use fake_quantize::{ClampedGradient, fake_quantize};
pub use linear::linear;
pub use norm::{BatchNormTrainOutput, batch_norm, batch_norm_train};
pub use operand::{Operand, Quantization};
pub use pool::{adaptive_avg_pool2d, avg_pool2d, max_pool2d};
pub use profile::{Spent, profile};
pub use trained_threshold::trained_threshold;
pub use watch::{GradientSink, watch_gradient};

/// Multiplications and additions a second that the registers of this machine's CPUs allow, with
/// all threads of the pool.
pub fn multiply_add_peak() -> f64 {
    kernel::peak::operations_per_second()
}
