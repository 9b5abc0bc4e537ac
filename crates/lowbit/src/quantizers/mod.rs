//! Quantizers: modules that say how one tensor of one layer is quantized.
//!
//! [`Quantizer`] is an enum over the methods, each in its own file. A quantizer does not round by
//! itself: it describes the rounding to the operator that reads the tensor.

mod dorefa;
mod format;
mod observe;
mod switch;
mod trained_threshold;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use dorefa::{DorefaActivation, DorefaConfig, DorefaWeight};
pub use format::{FormatQuantizer, FormatQuantizerConfig, set_rounding_step};
pub use observe::{Observation, Observations, observe};
pub use switch::{Switch, set_quantization};
pub use trained_threshold::{TrainedThreshold, TrainedThresholdConfig};

use crate::Error;
use crate::ops::{Operand, Quantization};

/// The channel dimension of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Which dimension.
    pub axis: usize,
    /// Its length.
    pub count: usize,
}

/// What a quantizer is to be, as plain data; in TOML, `{ method = "tqt", bits = 8 }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum QuantizerConfig {
    /// A fixed number format.
    Format(FormatQuantizerConfig),
    /// A trained power-of-two threshold.
    Tqt(TrainedThresholdConfig),
    /// DoReFa-Net, for a weight.
    DorefaWeight(DorefaConfig),
    /// DoReFa-Net, for an activation.
    DorefaActivation(DorefaConfig),
}

impl QuantizerConfig {
    /// Builds the quantizer.
    pub fn init(&self, channels: Option<Channels>, device: &Device) -> Quantizer {
        match self {
            Self::Format(config) => Quantizer::Format(config.init()),
            Self::Tqt(config) => Quantizer::TrainedThreshold(config.init(channels, device)),
            Self::DorefaWeight(config) => Quantizer::DorefaWeight(config.init_weight()),
            Self::DorefaActivation(config) => Quantizer::DorefaActivation(config.init_activation()),
        }
    }

    /// Bits that hold one number.
    pub fn bits(&self) -> u32 {
        match self {
            Self::Format(config) => config.format.bits(),
            Self::Tqt(config) => config.bits,
            Self::DorefaWeight(config) | Self::DorefaActivation(config) => config.bits,
        }
    }

    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        let (name, range) = match self {
            Self::Format(config) => {
                return config
                    .rounding
                    .validate()
                    .map_err(|error| Error::config("format: rounding", error.to_string()));
            }
            Self::Tqt(_) => ("tqt", 2..=24),
            Self::DorefaWeight(_) => ("dorefa-weight", 1..=24),
            Self::DorefaActivation(_) => ("dorefa-activation", 1..=24),
        };
        if range.contains(&self.bits()) {
            return Ok(());
        }
        Err(Error::config(
            format!("{name}: bits"),
            format!(
                "{} is outside {} to {}",
                self.bits(),
                range.start(),
                range.end()
            ),
        ))
    }
}

/// How one tensor of one layer is quantized.
#[derive(Module, Debug)]
pub enum Quantizer {
    /// To a fixed number format.
    Format(FormatQuantizer),
    /// To integers times a trained power of two.
    TrainedThreshold(TrainedThreshold),
    /// As DoReFa-Net does weights.
    DorefaWeight(DorefaWeight),
    /// As DoReFa-Net does activations.
    DorefaActivation(DorefaActivation),
}

impl Quantizer {
    /// The tensor as an operand, with how the operator shall quantize it.
    pub fn operand<const D: usize>(&self, x: Tensor<D>) -> Operand<D> {
        if observe::is_observing() {
            if let Self::TrainedThreshold(threshold) = self {
                threshold.observe(&x);
            }
            return x.into();
        }
        let quantization = self.switch().is_on().then(|| self.quantization());
        Operand::new(x, quantization)
    }

    fn switch(&self) -> &Switch {
        match self {
            Self::Format(q) => &q.switch,
            Self::TrainedThreshold(q) => &q.switch,
            Self::DorefaWeight(q) => &q.switch,
            Self::DorefaActivation(q) => &q.switch,
        }
    }

    fn quantization(&self) -> Quantization {
        match self {
            Self::Format(q) => q.quantization(),
            Self::TrainedThreshold(q) => q.quantization(),
            Self::DorefaWeight(q) => q.quantization(),
            Self::DorefaActivation(q) => q.quantization(),
        }
    }
}
