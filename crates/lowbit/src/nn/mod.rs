//! Layers: those of `burn::nn`, with the same names, builders and parameter paths, and a slot of
//! quantization for each of their tensors.

mod activation;
mod conv;
mod dropout;
mod embedding;
mod join;
mod linear;
mod norm;
mod pool;
mod quantize;
mod spiking;
mod window;

pub use activation::{
    Hardtanh, HardtanhConfig, LeakyRelu, LeakyReluConfig, Relu, Relu6, Relu6Config, ReluConfig,
    Sigmoid, SigmoidConfig, Tanh, TanhConfig,
};
pub use conv::{
    Adder2d, Adder2dConfig, Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig,
    ConvTranspose1d, ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig,
    ConvTranspose3d, ConvTranspose3dConfig, ShiftAdder2d, ShiftAdder2dConfig, ShiftConv2d,
    ShiftConv2dConfig,
};
pub use dropout::{Dropout, DropoutConfig};
pub use embedding::{Embedding, EmbeddingConfig};
pub use join::{Add, AddConfig, Concat, ConcatConfig, Mul, MulConfig};
pub use linear::{Linear, LinearConfig};
pub(crate) use norm::has_statistics;
pub use norm::{
    BatchNorm, BatchNormConfig, Normalization, conv_norm, conv_norm_relu, estimate_statistics,
};
pub use pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool1dConfig, AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig,
    AdaptiveAvgPool3d, AdaptiveAvgPool3dConfig, AvgPool1d, AvgPool1dConfig, AvgPool2d,
    AvgPool2dConfig, MaxPool1d, MaxPool1dConfig, MaxPool2d, MaxPool2dConfig,
};
pub use quantize::{Quantize, QuantizeConfig};
pub use spiking::{
    Alif, AlifConfig, Chip, Coding, CubaLif, CubaLifConfig, Decay, DecayConfig, DecayValue,
    ExpLeak, ExpLeakConfig, Iaf, IafConfig, Lif, LifConfig, NeuronState, SumPool2d,
    SumPool2dConfig, ThresholdConfig, fold_time, unfold_time,
};
