//! The layers of a network, as a plan sees them.

use super::QConfig;

/// A type of layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerType {
    /// Two-dimensional convolution.
    Conv2d {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Matrix product.
    Linear {
        /// Whether it has a bias.
        bias: bool,
    },
    /// Batch normalization.
    BatchNorm,
    /// Rectifier.
    Relu,
    /// Rectifier capped at 6.
    Relu6,
    /// Addition of two branches.
    Add,
    /// Max pooling.
    MaxPool2d,
    /// Average pooling.
    AvgPool2d,
    /// Average pooling to a given size.
    AdaptiveAvgPool2d,
}

impl LayerType {
    /// The name of its module.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "Conv2d",
            Self::Linear { .. } => "Linear",
            Self::BatchNorm => "BatchNorm",
            Self::Relu => "Relu",
            Self::Relu6 => "Relu6",
            Self::Add => "Add",
            Self::MaxPool2d => "MaxPool2d",
            Self::AvgPool2d => "AvgPool2d",
            Self::AdaptiveAvgPool2d => "AdaptiveAvgPool2d",
        }
    }

    /// Whether it has a weight that a plan's default quantizes.
    pub fn has_weight(self) -> bool {
        matches!(self, Self::Conv2d { .. } | Self::Linear { .. })
    }

    /// Whether branches meet in it whose numbers must have one scale.
    pub fn joins(self) -> bool {
        matches!(self.name(), "Add" | "Concat")
    }

    /// Whether it has the slot of that name.
    pub fn has_slot(self, slot: &str) -> bool {
        match slot {
            "input" | "output" => true,
            "weight" => self.has_weight(),
            "bias" => matches!(
                self,
                Self::Conv2d { bias: true } | Self::Linear { bias: true }
            ),
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
