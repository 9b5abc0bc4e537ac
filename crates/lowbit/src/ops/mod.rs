//! Operators. The layers call these and nothing else where a quantized version could differ.
//!
//! An operator that reads operands takes each with its [`Quantization`], so that rounding can be
//! part of the pass that reads it. The quantizing operators are backend extensions: a hand-written
//! backward on `Autodiff`, kernels on Flex, and bodies composed of tensor primitives elsewhere.

mod attention;
mod backend;
mod cross_entropy;
mod distance;
mod embedding;
mod layer_norm;
mod matmul;
mod norm;
mod pointwise;
mod pool;
mod power;
mod product;
mod quantization;
mod recorded;
mod softmax;
mod spiking;
mod standardize;
mod sum;
mod update;

pub use attention::attention;
pub(crate) use attention::attention_of;
pub(crate) use backend::capture::{RecordedOperator, has_way_back, recorded_index, take_recorded};
pub(crate) use backend::mark::{Mark, mark};
pub use backend::profile::{Spent, profile};
pub use backend::watch::{GradientSink, watch_gradient};
pub use cross_entropy::{cross_entropy, smoothed_cross_entropy};
pub use distance::{attention_distance, kl_divergence, mean_square};
pub use embedding::embedding;
pub use layer_norm::{layer_norm, rms_norm};
pub use matmul::matmul;
pub use norm::{BatchNormTrainOutput, batch_norm, batch_norm_train};
pub use pointwise::{
    Activation, add, celu, concat, elu, gelu, gelu_approximate, glu, hard_shrink, hard_sigmoid,
    hard_swish, hardtanh, leaky_relu, log_sigmoid, mish, mul, posit_activation, prelu, relu, relu6,
    selu, shrink, sigmoid, silu, soft_shrink, softplus, softsign, tanh, tanhshrink, threshold,
    thresholded_relu,
};
pub(crate) use pool::{Pooling, Sliding};
pub use pool::{
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, avg_pool1d, avg_pool2d,
    avg_pool3d, max_pool1d, max_pool2d, max_pool3d, sum_pool2d,
};
pub(crate) use power::power;
pub use product::{
    AdderOptions, ProductSums, adder2d, conv_transpose1d, conv_transpose1d_with_sums,
    conv_transpose2d, conv_transpose2d_with_sums, conv_transpose3d, conv_transpose3d_with_sums,
    conv1d, conv1d_with_sums, conv2d, conv2d_with_sums, conv3d, conv3d_with_sums, deform_conv2d,
    linear, linear_with_sums,
};
pub(crate) use product::{Following, Operands, conv1d_of, conv2d_of, conv2d_then, linear_of};
pub(crate) use quantization::FakeQuantize;
pub(crate) use quantization::OperandQuantization;
pub(crate) use quantization::grid::{ValueGrid, exponent};
pub use quantization::*;
pub(crate) use recorded::{Meaning, ProductKind};
pub use softmax::{quiet_softmax, softmax};
pub(crate) use spiking::repeated;
pub use spiking::{
    Adaptation, Firing, Gain, Grid, Leak, LeakRounding, Neuron, NeuronParameters, Overflow, Reset,
    Surrogate, spiking, spiking_with_state,
};
pub use standardize::{channel_statistics, standardize};
pub(crate) use sum::sum;
pub use update::{AdamStep, SgdStep, adam, sgd};

/// Multiplications and additions a second that the registers of this machine's CPUs allow, with
/// all threads of the pool.
pub fn multiply_add_peak() -> f64 {
    lowbit_kernels::peak::operations_per_second()
}
