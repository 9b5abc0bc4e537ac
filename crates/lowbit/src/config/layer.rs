//! The layers of a network, as a plan sees them.

use super::QConfig;

/// A type of layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerType {
    /// One-dimensional convolution.
    Conv1d {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Two-dimensional convolution.
    Conv2d {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Three-dimensional convolution.
    Conv3d {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Transposed one-dimensional convolution.
    ConvTranspose1d {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Transposed two-dimensional convolution.
    ConvTranspose2d {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Transposed three-dimensional convolution.
    ConvTranspose3d {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Matrix product.
    Linear {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Two-dimensional sum of distances.
    Adder2d {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Two-dimensional convolution with powers of two.
    ShiftConv2d {
        /// Whether it has a bias.
        bias: bool,
        /// Bits of a weight, 2 to 8.
        weight_bits: u8,
    },
    /// Table of vectors.
    Embedding,
    /// Batch normalization.
    BatchNorm,
    /// Rectifier.
    Relu,
    /// Rectifier capped at 6.
    Relu6,
    /// Rectifier with a slope below zero.
    LeakyRelu,
    /// Clamp to an interval.
    Hardtanh,
    /// Logistic function.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// Addition of two branches.
    Add,
    /// Product of two branches.
    Mul,
    /// Branches side by side.
    Concat,
    /// Max pooling of sequences.
    MaxPool1d,
    /// Max pooling.
    MaxPool2d,
    /// Average pooling of sequences.
    AvgPool1d,
    /// Average pooling.
    AvgPool2d,
    /// Average pooling of sequences to a given size.
    AdaptiveAvgPool1d,
    /// Average pooling to a given size.
    AdaptiveAvgPool2d,
    /// Average pooling of volumes to a given size.
    AdaptiveAvgPool3d,
}

impl LayerType {
    /// The name of its module.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv1d { .. } => "Conv1d",
            Self::Conv2d { .. } => "Conv2d",
            Self::Conv3d { .. } => "Conv3d",
            Self::ConvTranspose1d { .. } => "ConvTranspose1d",
            Self::ConvTranspose2d { .. } => "ConvTranspose2d",
            Self::ConvTranspose3d { .. } => "ConvTranspose3d",
            Self::Linear { .. } => "Linear",
            Self::Adder2d { .. } => "Adder2d",
            Self::ShiftConv2d { .. } => "ShiftConv2d",
            Self::Embedding => "Embedding",
            Self::BatchNorm => "BatchNorm",
            Self::Relu => "Relu",
            Self::Relu6 => "Relu6",
            Self::LeakyRelu => "LeakyRelu",
            Self::Hardtanh => "Hardtanh",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Concat => "Concat",
            Self::MaxPool1d => "MaxPool1d",
            Self::MaxPool2d => "MaxPool2d",
            Self::AvgPool1d => "AvgPool1d",
            Self::AvgPool2d => "AvgPool2d",
            Self::AdaptiveAvgPool1d => "AdaptiveAvgPool1d",
            Self::AdaptiveAvgPool2d => "AdaptiveAvgPool2d",
            Self::AdaptiveAvgPool3d => "AdaptiveAvgPool3d",
        }
    }

    /// Whether it has a bias; `None` for layers that never have one.
    fn bias(self) -> Option<bool> {
        match self {
            Self::Conv1d { bias }
            | Self::Conv2d { bias }
            | Self::Conv3d { bias }
            | Self::ConvTranspose1d { bias }
            | Self::ConvTranspose2d { bias }
            | Self::ConvTranspose3d { bias }
            | Self::Linear { bias }
            | Self::Adder2d { bias }
            | Self::ShiftConv2d { bias, .. } => Some(bias),
            _ => None,
        }
    }

    /// Whether it has a weight: a plan's `default` is for these, its `unweighted` for some of the
    /// others.
    pub fn has_weight(self) -> bool {
        self.bias().is_some() || self == Self::Embedding
    }

    /// Whether it quantizes its weight by what it is, without a slot for it.
    pub fn has_own_weight_format(self) -> bool {
        matches!(self, Self::ShiftConv2d { .. })
    }

    /// Whether it has no weight and computes numbers that its inputs' grid does not hold: not a
    /// rectifier, a clamp or a maximum, whose results belong to the layer before.
    pub fn leaves_grid(self) -> bool {
        matches!(
            self,
            Self::LeakyRelu
                | Self::Sigmoid
                | Self::Tanh
                | Self::Add
                | Self::Mul
                | Self::Concat
                | Self::AvgPool1d
                | Self::AvgPool2d
                | Self::AdaptiveAvgPool1d
                | Self::AdaptiveAvgPool2d
                | Self::AdaptiveAvgPool3d
        )
    }

    /// Whether it has the slot of that name.
    pub fn has_slot(self, slot: &str) -> bool {
        match slot {
            // An embedding reads indices.
            "input" => self != Self::Embedding,
            "output" => true,
            "weight" => self.has_weight() && !self.has_own_weight_format(),
            "bias" => self.bias() == Some(true),
            // An embedding sums nothing.
            "accumulator" => self.bias().is_some(),
            _ => false,
        }
    }
}

/// A layer of a network and what it quantizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its path in the module tree, such as `layer1.0.conv1`.
    pub path: String,
    /// Its type.
    pub layer_type: LayerType,
    /// What it quantizes.
    pub config: QConfig,
}
