//! Layers: those of `burn::nn`, with the same names, builders and parameter paths, and a slot of
//! quantization for each of their tensors.

mod activation;
mod attention;
mod conv;
mod dropout;
mod embedding;
mod join;
mod linear;
mod norm;
mod planned;
mod pool;
mod quantize;
mod rnn;
mod spiking;
mod transformer;
mod window;

pub use activation::{
    Activation, Celu, CeluConfig, Elu, EluConfig, Gelu, GeluConfig, Glu, GluConfig, HardShrink,
    HardShrinkConfig, HardSigmoid, HardSigmoidConfig, HardSwish, HardSwishConfig, Hardtanh,
    HardtanhConfig, LeakyRelu, LeakyReluConfig, LogSigmoid, LogSigmoidConfig, Mish, MishConfig,
    PRelu, PReluConfig, RRelu, RReluConfig, Relu, Relu6, Relu6Config, ReluConfig, Selu, SeluConfig,
    Shrink, ShrinkConfig, Sigmoid, SigmoidConfig, Silu, SiluConfig, SoftShrink, SoftShrinkConfig,
    Softmax, SoftmaxConfig, Softplus, SoftplusConfig, Softsign, SoftsignConfig, SwiGlu,
    SwiGluConfig, Tanh, TanhConfig, Tanhshrink, TanhshrinkConfig, Threshold, ThresholdConfig,
    ThresholdedRelu, ThresholdedReluConfig,
};
pub use attention::{
    CrossAttention, CrossAttentionConfig, DotProductAttention, DotProductAttentionConfig,
    KeyValues, MhaInput, MhaOutput, MultiHeadAttention, MultiHeadAttentionConfig,
};
pub use conv::{
    Adder2d, Adder2dConfig, Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig,
    ConvTranspose1d, ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig,
    ConvTranspose3d, ConvTranspose3dConfig, DeformConv2d, DeformConv2dConfig, ShiftAdder2d,
    ShiftAdder2dConfig, ShiftConv2d, ShiftConv2dConfig,
};
pub use dropout::{Dropout, DropoutConfig};
pub use embedding::{Embedding, EmbeddingConfig};
pub use join::{Add, AddConfig, Concat, ConcatConfig, Mul, MulConfig};
pub use linear::{Linear, LinearConfig};
pub(crate) use norm::has_statistics;
pub use norm::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig,
    LayerNorm, LayerNormConfig, Normalization, RmsNorm, RmsNormConfig, conv_norm, conv_norm_add,
    conv_norm_relu, estimate_statistics,
};
pub use pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool1dConfig, AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig,
    AdaptiveAvgPool3d, AdaptiveAvgPool3dConfig, AvgPool1d, AvgPool1dConfig, AvgPool2d,
    AvgPool2dConfig, AvgPool3d, AvgPool3dConfig, MaxPool1d, MaxPool1dConfig, MaxPool2d,
    MaxPool2dConfig, MaxPool3d, MaxPool3dConfig,
};
pub use quantize::{Quantize, QuantizeConfig};
pub use rnn::{
    BiGru, BiGruConfig, BiLstm, BiLstmConfig, GateController, Gru, GruConfig, Lstm, LstmConfig,
};
pub(crate) use spiking::Dynamics;
pub use spiking::{
    Alif, AlifConfig, Chip, Coding, CubaLif, CubaLifConfig, Decay, DecayConfig, DecayValue,
    ExpLeak, ExpLeakConfig, FiringThresholdConfig, Iaf, IafConfig, Lif, LifConfig, NeuronState,
    SumPool2d, SumPool2dConfig, fold_time, unfold_time,
};
pub use transformer::{
    PositionWiseFeedForward, PositionWiseFeedForwardConfig, TransformerDecoder,
    TransformerDecoderConfig, TransformerDecoderInput, TransformerDecoderLayer, TransformerEncoder,
    TransformerEncoderConfig, TransformerEncoderInput, TransformerEncoderLayer,
};
