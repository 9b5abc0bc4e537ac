//! Operators. The layers call these and nothing else where a quantized version could differ.
//!
//! An operator that reads operands takes each with its [`Quantization`], so that rounding can be
//! part of the pass that reads it. The quantizing operators are backend extensions: a hand-written
//! backward on `Autodiff`, kernels on Flex, and bodies composed of tensor primitives elsewhere.

mod accumulate;
mod activation;
mod add;
mod adder;
mod composed;
mod concat;
mod conv;
mod conv1d;
mod conv3d;
mod conv_transpose;
mod cross_entropy;
mod dorefa;
mod embedding;
mod fake_quantize;
mod flex;
mod fused;
mod hardtanh;
mod kernel;
mod leaky_relu;
mod linear;
mod mul;
mod norm;
mod operand;
mod pool;
mod pool1d;
mod pool3d;
mod posit_activation;
mod product;
mod saturation;
mod sigmoid;
mod tanh;
mod trained_threshold;
mod update;
mod watch;

mod profile;

pub use activation::{Activation, relu, relu6};
pub use add::add;
pub use adder::{AdderOptions, adder2d};
pub use concat::concat;
pub use conv::conv2d;
pub use conv_transpose::{conv_transpose1d, conv_transpose2d, conv_transpose3d};
pub use conv1d::conv1d;
pub use conv3d::conv3d;
pub use cross_entropy::cross_entropy;
pub use dorefa::dorefa_weight;
pub use embedding::embedding;
pub use fake_quantize::{ClampedGradient, fake_quantize};
pub use hardtanh::hardtanh;
pub use leaky_relu::leaky_relu;
pub use linear::linear;
pub use mul::mul;
pub use norm::{BatchNormTrainOutput, batch_norm, batch_norm_train};
pub use operand::{Operand, Quantization};
pub use pool::{adaptive_avg_pool2d, avg_pool2d, max_pool2d};
pub use pool1d::{adaptive_avg_pool1d, avg_pool1d, max_pool1d};
pub use pool3d::adaptive_avg_pool3d;
pub use posit_activation::posit_activation;
pub use profile::{Spent, profile};
pub use saturation::{IntegerGrid, Saturation, bits_of, sum_limits};
pub use sigmoid::{sigmoid, tanh};
pub use trained_threshold::trained_threshold;
pub use update::{AdamStep, SgdStep, adam, sgd};
pub use watch::{GradientSink, watch_gradient};

/// Multiplications and additions a second that the registers of this machine's CPUs allow, with
/// all threads of the pool.
pub fn multiply_add_peak() -> f64 {
    kernel::peak::operations_per_second()
}
