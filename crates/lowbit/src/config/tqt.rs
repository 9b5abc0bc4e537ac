//! The plan of TQT.

use super::{FLOAT_BITS, QConfig, QPlan};
use crate::quantizers::{QuantizerConfig, ThresholdInit, TrainedThresholdConfig};

/// What TQT quantizes in a network, and with how many bits; 32 leave a tensor in float.
///
/// Weights start from three standard deviations and activations from KL-J, as the paper retrains
/// them (arXiv 1903.08066, table 2). The first and the last layer have at least 8 bits (section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TqtPlan {
    /// Bits of weights.
    pub weight_bits: u32,
    /// Bits of biases.
    pub bias_bits: u32,
    /// Bits of activations.
    pub activation_bits: u32,
    /// How thresholds of weights start.
    pub weight_init: ThresholdInit,
    /// How thresholds of biases start.
    pub bias_init: ThresholdInit,
    /// How thresholds of activations start.
    pub activation_init: ThresholdInit,
    /// Whether thresholds train.
    pub retrain: bool,
    /// Whether each output channel of a weight has its own threshold.
    pub per_channel: bool,
    /// Whether the branches that meet in an addition or a concatenation are quantized.
    pub joins: bool,
}

impl TqtPlan {
    /// Weights and inputs of every layer with a weight.
    pub fn new(weight_bits: u32, activation_bits: u32) -> Self {
        Self {
            weight_bits,
            bias_bits: FLOAT_BITS,
            activation_bits,
            weight_init: ThresholdInit::ThreeDeviations,
            bias_init: ThresholdInit::Max,
            activation_init: ThresholdInit::KL_J,
            retrain: true,
            per_channel: false,
            joins: false,
        }
    }

    /// Also the biases, with 16 bits, and the branches that meet.
    pub fn all_tensors(self) -> Self {
        Self {
            bias_bits: 16,
            joins: true,
            ..self
        }
    }

    /// Thresholds that keep what calibration gives them: weights from `weights`, activations from
    /// `activations`.
    pub fn fixed(self, weights: ThresholdInit, activations: ThresholdInit) -> Self {
        Self {
            weight_init: weights,
            activation_init: activations,
            retrain: false,
            ..self
        }
    }

    /// The plan.
    pub fn plan(&self) -> QPlan {
        let outer = self.layer(8);
        QPlan {
            default: self.layer(0),
            first: outer.clone(),
            last: outer,
            joins: self
                .quantizer(self.activation_bits, self.activation_init, false)
                .filter(|_| self.joins),
            ..QPlan::default()
        }
    }

    /// A layer whose weight and input have `at_least` so many bits.
    fn layer(&self, at_least: u32) -> QConfig {
        let (weight, input) = (
            self.weight_bits.max(at_least),
            self.activation_bits.max(at_least),
        );
        QConfig {
            weight: self.quantizer(weight, self.weight_init, self.per_channel),
            bias: self.quantizer(self.bias_bits, self.bias_init, false),
            input: self.quantizer(input, self.activation_init, false),
            ..QConfig::default()
        }
    }

    fn quantizer(
        &self,
        bits: u32,
        init: ThresholdInit,
        per_channel: bool,
    ) -> Option<QuantizerConfig> {
        let config = TrainedThresholdConfig {
            bits,
            per_channel,
            init,
            retrain: self.retrain,
        };
        (bits < FLOAT_BITS).then_some(QuantizerConfig::Tqt(config))
    }
}
