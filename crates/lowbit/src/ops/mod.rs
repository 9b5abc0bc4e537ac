//! Operators. The layers call these and nothing else where a quantized version could differ.
//!
//! An operator that reads operands takes each with its [`Quantization`], so that rounding can be
//! part of the pass that reads it. The quantizing operators are backend extensions: a hand-written
//! backward on `Autodiff`, kernels on Flex, and bodies composed of tensor primitives elsewhere.

mod backend;
mod cross_entropy;
mod distance;
mod embedding;
mod norm;
mod pointwise;
mod pool;
mod power;
mod product;
mod quantization;
mod spiking;
mod sum;
mod update;

pub use backend::profile::{Spent, profile};
pub use backend::watch::{GradientSink, watch_gradient};
pub use cross_entropy::{cross_entropy, smoothed_cross_entropy};
pub use distance::{attention_distance, kl_divergence, mean_square};
pub use embedding::embedding;
pub use norm::{BatchNormTrainOutput, batch_norm, batch_norm_train};
pub use pointwise::{
    Activation, add, concat, hardtanh, leaky_relu, mul, posit_activation, relu, relu6, sigmoid,
    tanh,
};
pub use pool::{
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, avg_pool1d, avg_pool2d,
    max_pool1d, max_pool2d, sum_pool2d,
};
pub(crate) use power::power;
pub use product::{
    AdderOptions, ProductSums, adder2d, conv_transpose1d, conv_transpose1d_with_sums,
    conv_transpose2d, conv_transpose2d_with_sums, conv_transpose3d, conv1d, conv1d_with_sums,
    conv2d, conv2d_with_sums, conv3d, linear, linear_with_sums,
};
pub use quantization::*;
pub use spiking::{
    Adaptation, Firing, Gain, Grid, Leak, LeakRounding, Neuron, NeuronParameters, Overflow, Reset,
    Surrogate, spiking, spiking_with_state,
};
pub(crate) use sum::sum;
pub use update::{AdamStep, SgdStep, adam, sgd};

/// Multiplications and additions a second that the registers of this machine's CPUs allow, with
/// all threads of the pool.
pub fn multiply_add_peak() -> f64 {
    lowbit_kernels::peak::operations_per_second()
}
