//! Quantizers: modules that say how one tensor of one layer is quantized.
//!
//! [`Quantizer`] is an enum over the methods, each in its own file. A quantizer does not round by
//! itself: it describes the rounding to the operator that reads the tensor.

mod methods;
mod slots;
mod threshold_init;
mod watch;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use methods::{
    Accumulator, AccumulatorConfig, DorefaActivation, DorefaConfig, DorefaWeight, FormatQuantizer,
    FormatQuantizerConfig, TrainedThreshold, TrainedThresholdConfig, UNTRAINED_STEP, bad_threshold,
    set_rounding,
};
pub use slots::{Quantizers, Sums, Term};
pub use threshold_init::ThresholdInit;
pub(crate) use watch::matches;
pub use watch::{
    Histogram, ModulePath, Observation, Observations, Place, Qualities, Quality, Selection, Switch,
    Tapped, Taps, measuring, observe, set_quantization, set_retraining,
};

use crate::Error;
use crate::ops::{IntegerGrid, Operand, Quantization};

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

    /// Gives the quantizer another width; a format keeps its own.
    pub fn set_bits(&mut self, bits: u32) {
        match self {
            Self::Format(_) => {}
            Self::Tqt(config) => config.bits = bits,
            Self::DorefaWeight(config) | Self::DorefaActivation(config) => config.bits = bits,
        }
    }

    /// Whether the results are integers times a power of two.
    pub(crate) fn check_power_of_two(&self, slot: &str) -> Result<(), Error> {
        let (name, has) = match self {
            Self::Tqt(_) => return Ok(()),
            Self::Format(config) => (
                config.format.to_string(),
                IntegerGrid::of(&config.format).is_some(),
            ),
            Self::DorefaWeight(_) => ("dorefa-weight".into(), false),
            Self::DorefaActivation(_) => ("dorefa-activation".into(), false),
        };
        if has {
            return Ok(());
        }
        Err(Error::config(
            "accumulator",
            format!("{slot} is {name}, expected one with a power-of-two step"),
        ))
    }

    /// Whether every field is in its range, and the method is one for the slot of that name.
    pub fn check(&self, slot: &str) -> Result<(), Error> {
        let (name, bits, slots): (_, _, &[&str]) = match self {
            Self::Format(config) => {
                let refused = |error| Error::config(slot, format!("rounding: {error}"));
                return config.rounding.validate().map_err(refused);
            }
            Self::Tqt(_) => (
                "tqt",
                TrainedThresholdConfig::BITS,
                &["input", "weight", "bias", "output"],
            ),
            Self::DorefaWeight(_) => ("dorefa-weight", DorefaConfig::WEIGHT_BITS, &["weight"]),
            Self::DorefaActivation(_) => (
                "dorefa-activation",
                DorefaConfig::ACTIVATION_BITS,
                &["input", "output"],
            ),
        };
        if !slots.contains(&slot) {
            return Err(Error::config(
                slot,
                format!("{name} is for {}", slots.join(" or ")),
            ));
        }
        if matches!(self, Self::Tqt(config) if config.per_channel && slot != "weight") {
            return Err(Error::config(slot, "per_channel is for a weight"));
        }
        if !bits.contains(&self.bits()) {
            let (first, last) = (bits.start(), bits.end());
            let message = format!(
                "bits is {}, expected {first} to {last} ({name})",
                self.bits()
            );
            return Err(Error::config(slot, message));
        }
        Ok(())
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
        self.operand_of(x, false)
    }

    /// The same for a parameter, which is one tensor in every batch.
    pub(super) fn operand_of<const D: usize>(&self, x: Tensor<D>, parameter: bool) -> Operand<D> {
        if watch::is_observing() {
            if let Self::TrainedThreshold(threshold) = self {
                threshold.observe(&x, parameter);
            }
            return x.into();
        }
        let quantization = self.switch().is_on().then(|| self.quantization());
        if let (Self::TrainedThreshold(threshold), Some(quantization)) = (self, &quantization)
            && watch::is_measuring()
        {
            threshold.measure(&x, &quantization.clone().apply(x.clone()), parameter);
        }
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
