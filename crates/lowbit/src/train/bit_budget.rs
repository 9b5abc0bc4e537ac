//! A budget for widths that are learned.

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::FLOAT_BITS;
use crate::quantizers::{LearnedWidths, Slot};

/// How many bits learned widths may have on average; in TOML, `bit_budget = { bits = 4 }`.
///
/// The loss gets `strength n (max(0, W - B) + max(0, A - B))` more, with `n` layers. `W` is the mean
/// width of the weights, each counted as often as it has numbers; `A` that of the inputs, each counted
/// as often as the weight that multiplies it has numbers; so that the gradient to one width is about
/// `strength`, however many there are. The budget `B` comes down from 8 bits, in a line, to `bits` at half
/// of the training, so that the epochs of one run draw the front of accuracy against size. A width is
/// `max(0, integer_bits + fraction_bits)`, and one bit more with a sign (HGQ, arXiv 2405.00645,
/// equation 5, whose penalty multiplies the widths of each product).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitBudget {
    /// Bits of weights, and of inputs, on average.
    pub bits: f64,
    /// What a bit of one width beyond the budget adds to the loss, on average.
    #[serde(default = "one")]
    pub strength: f64,
}

fn one() -> f64 {
    1.0
}

/// What the budget comes down from.
const FIRST: f64 = 8.0;

/// The part of the training after which it has come down.
const DOWN_AFTER: f64 = 0.5;

/// Mean widths of the tensors of a network whose widths are learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanBits {
    /// Of weights.
    pub weights: f64,
    /// Of what layers read.
    pub inputs: f64,
}

impl BitBudget {
    /// So many bits.
    pub fn new(bits: f64) -> Self {
        Self {
            bits,
            strength: one(),
        }
    }

    /// Whether each field is in its range.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (field, value) in [("bits", self.bits), ("strength", self.strength)] {
            if !(value.is_finite() && value > 0.0) {
                let message = format!("is {value}, expected a positive number");
                return Err(Error::config(field, message));
            }
        }
        Ok(())
    }

    /// The budget after a part of the training, from 0 to 1.
    pub(super) fn at(&self, part: f64) -> f64 {
        let down = (part / DOWN_AFTER).min(1.0);
        (FIRST + (self.bits - FIRST) * down).max(self.bits)
    }

    /// What the loss of a network gets more, where it has widths that are learned.
    pub(super) fn penalty<M: Module>(&self, model: &M, part: f64) -> Option<Tensor<1>> {
        let budget = self.at(part);
        let found = LearnedWidths::of(model);
        let beyond = |slot| {
            let layers = found.layers(slot) as f64;
            Some((found.mean(slot)? - budget).clamp_min(0.0) * layers)
        };
        let parts = [beyond(Slot::WEIGHT), beyond(Slot::INPUT)];
        let sum = parts.into_iter().flatten().reduce(|a, b| a + b)?;
        Some(sum * self.strength)
    }
}

/// The mean widths of a network's weights and inputs as they are rounded; none where no width is
/// learned.
pub fn mean_bits<M: Module>(model: &M) -> Option<MeanBits> {
    let found = LearnedWidths::of(model);
    let inputs = found.whole_mean(Slot::INPUT);
    Some(MeanBits {
        weights: found.whole_mean(Slot::WEIGHT)?,
        inputs: inputs.unwrap_or(f64::from(FLOAT_BITS)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QConfig;
    use crate::nn::{Linear, LinearConfig};
    use crate::quantizers::{LearnedWidthConfig, QuantizerConfig};
    use burn::tensor::Device;

    fn linear(device: &Device) -> Linear {
        let width = |bits| QuantizerConfig::LearnedWidth(LearnedWidthConfig::new(bits));
        let config = QConfig::new()
            .with(Slot::WEIGHT, width(6))
            .with(Slot::INPUT, width(5));
        LinearConfig::new(2, 3)
            .with_quantization(config)
            .init(device)
    }

    /// Until they are calibrated, widths are those of the configuration, signed: 6 and 5 bits, which
    /// are 2 and 1 beyond a budget of 4, each bit worth 0.5. The gradient to the bits of each is 0.5.
    #[test]
    fn bits_beyond_the_budget_cost() {
        let device = Device::flex().autodiff();
        let linear = linear(&device);
        let budget = BitBudget {
            bits: 4.0,
            strength: 0.5,
        };
        let penalty = budget.penalty(&linear, 1.0).unwrap();
        let grads = penalty.backward();
        assert_eq!(penalty.into_scalar::<f32>(), 1.5);
        let Some(crate::quantizers::Quantizer::LearnedWidth(weight)) =
            linear.quantizers.get(Slot::WEIGHT)
        else {
            panic!("no such slot");
        };
        let grad = weight.fraction_bits.val().grad(&grads).unwrap();
        assert_eq!(grad.into_scalar::<f32>(), 0.5);
        let mean = mean_bits(&linear).unwrap();
        assert_eq!((mean.weights, mean.inputs), (6.0, 5.0));
    }

    /// From 8 bits to 4 at half time: 6 at a quarter.
    #[test]
    fn the_budget_comes_down() {
        let budget = BitBudget::new(4.0);
        assert_eq!(
            [0.0, 0.25, 0.5, 1.0].map(|part| budget.at(part)),
            [8.0, 6.0, 4.0, 4.0]
        );
        assert_eq!(BitBudget::new(9.0).at(0.0), 9.0);
    }

    #[test]
    fn a_network_of_given_widths_costs_nothing() {
        let device = Device::flex().autodiff();
        let linear = LinearConfig::new(2, 3).init(&device);
        assert!(BitBudget::new(4.0).penalty(&linear, 0.0).is_none());
        assert!(mean_bits(&linear).is_none());
    }
}
