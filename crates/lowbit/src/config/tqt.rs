//! The plan of TQT.

use super::{FLOAT_BITS, QConfig, QPlan};
use crate::quantizers::{
    AccumulatorConfig, QuantizerConfig, Slot, ThresholdInit, TrainedThresholdConfig,
};

/// Bits of everything in a TQT network; the defaults are 8 for weights and activations, 16 for
/// biases and the usual ones for sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TqtWidths {
    /// Bits of a weight, 2 to 24.
    pub weight: u32,
    /// Bits of a bias, 2 to 24.
    pub bias: u32,
    /// Bits of an activation, 2 to 24.
    pub activation: u32,
    /// Bits of a sum of products; none for [`SumWidth::Usual`].
    pub accumulator: Option<u32>,
}

/// How many bits a sum of products or distances of quantized numbers has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SumWidth {
    /// It is a float.
    #[default]
    Float,
    /// [`AccumulatorConfig::usual_bits`] of the layer's weight and input: 32, or more where they
    /// are wider than 8 and 8.
    Usual,
    /// So many, where weight and input are quantized.
    Bits(u32),
}

impl Default for TqtWidths {
    fn default() -> Self {
        Self {
            weight: 8,
            bias: 16,
            activation: 8,
            accumulator: None,
        }
    }
}

/// What TQT quantizes in a network, and with how many bits; 32 leave a tensor in float.
///
/// Weights start from three standard deviations and activations from KL-J, as the paper retrains
/// them (arXiv 1903.08066, table 2), the network's input from the maximum. The first and the last layer have at least 8 bits (section 6).
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
    /// How thresholds of activations start. The network's input starts from the maximum where this
    /// is a divergence (KL-J or entropy): the ends of its range are no thin tail, and a divergence
    /// may cut them off to keep a value that most of it has, such as an image's background, apart
    /// from its neighbors.
    pub activation_init: ThresholdInit,
    /// Whether thresholds train.
    pub retrain: bool,
    /// Whether each output channel of a weight has its own threshold.
    pub per_channel: bool,
    /// Bits of sums of products or distances of quantized numbers.
    pub accumulator: SumWidth,
    /// Whether the network's result is quantized, and what layers without a weight read: with one
    /// threshold, and so one scale, where branches meet in an addition or a concatenation.
    pub all_activations: bool,
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
            accumulator: SumWidth::Float,
            all_activations: false,
        }
    }

    /// Also biases, with 16 bits, sums, with the usual ones, and all other activations.
    pub fn all_tensors(self) -> Self {
        Self {
            bias_bits: TqtWidths::default().bias,
            accumulator: SumWidth::Usual,
            all_activations: true,
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
        let outer = self.layer(8, self.activation_init);
        let activation = |at_least: u32| {
            let bits = self.activation_bits.max(at_least);
            self.quantizer(bits, self.activation_init, false)
                .filter(|_| self.all_activations)
        };
        QPlan {
            default: self.layer(0, self.activation_init),
            first: self.layer(8, self.network_init()),
            last: outer.with(Slot::OUTPUT, activation(8)),
            unweighted: QConfig::new().with(Slot::INPUT, activation(0)),
            ..QPlan::default()
        }
    }

    /// How the threshold of the network's input starts.
    fn network_init(&self) -> ThresholdInit {
        match self.activation_init {
            ThresholdInit::KlJ { .. } | ThresholdInit::Entropy { .. } => ThresholdInit::Max,
            init => init,
        }
    }

    /// A layer whose weight and input have `at_least` so many bits, the input from `init`.
    fn layer(&self, at_least: u32, init: ThresholdInit) -> QConfig {
        let (weight, input) = (
            self.weight_bits.max(at_least),
            self.activation_bits.max(at_least),
        );
        let accumulator = match self.accumulator {
            SumWidth::Float => None,
            SumWidth::Usual => Some(AccumulatorConfig::usual_bits(weight, input)),
            SumWidth::Bits(bits) => Some(bits),
        };
        // A sum of numbers in float has no step to count in.
        let accumulator = accumulator.filter(|_| weight.max(input) < FLOAT_BITS);
        let weight = self.quantizer(weight, self.weight_init, self.per_channel);
        let bias = self.quantizer(self.bias_bits, self.bias_init, false);
        let input = self.quantizer(input, init, false);
        QConfig::new()
            .with(Slot::INPUT, input)
            .with(Slot::WEIGHT, weight)
            .with(Slot::BIAS, bias)
            .with_accumulator(accumulator)
    }

    fn quantizer(
        &self,
        bits: u32,
        init: ThresholdInit,
        per_channel: bool,
    ) -> Option<QuantizerConfig> {
        let config = TrainedThresholdConfig {
            per_channel,
            init,
            retrain: self.retrain,
            ..TrainedThresholdConfig::new(bits)
        };
        (bits < FLOAT_BITS).then_some(QuantizerConfig::Tqt(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product of two signed numbers of b bits has 2b - 1, of which 2^16 add 16: 8 and 8 fit 32
    /// bits, 16 and 16 need 48, and 24 and 24 the 64 that there are.
    #[test]
    fn sums_of_wider_numbers_are_wider() {
        let sum = |weight, activation| {
            let plan = TqtPlan::new(weight, activation).all_tensors().plan();
            plan.default.accumulator.map(|sum| sum.bits)
        };
        assert_eq!(sum(4, 4), Some(32));
        assert_eq!(sum(8, 8), Some(32));
        assert_eq!(sum(16, 16), Some(48));
        assert_eq!(sum(24, 8), Some(48));
        assert_eq!(sum(24, 24), Some(64));
        assert_eq!(sum(8, 32), None);
        for bits in [20, 32] {
            let narrow = TqtPlan {
                accumulator: SumWidth::Bits(bits),
                ..TqtPlan::new(16, 16)
            };
            assert_eq!(narrow.plan().default.accumulator.unwrap().bits, bits);
        }
    }

    #[test]
    fn a_divergence_does_not_clip_the_networks_input() {
        let inits = |activation_init| {
            let plan = TqtPlan {
                activation_init,
                ..TqtPlan::new(8, 8)
            };
            let plan = plan.plan();
            [plan.first, plan.default, plan.last].map(|layer| match layer.get(Slot::INPUT) {
                Some(QuantizerConfig::Tqt(config)) => config.init,
                other => panic!("{other:?}"),
            })
        };
        let (max, mse) = (ThresholdInit::Max, ThresholdInit::Mse);
        for init in [ThresholdInit::KL_J, ThresholdInit::ENTROPY] {
            assert_eq!(inits(init), [max, init, init]);
        }
        assert_eq!(inits(mse), [mse; 3]);
    }
}
