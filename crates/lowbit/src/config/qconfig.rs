//! What is quantized in one layer.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::quantizers::{Channels, QuantizerConfig, Quantizers};

/// How each tensor of a layer is quantized; a slot that is absent stays in float.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QConfig {
    /// What the layer reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<QuantizerConfig>,
    /// Its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<QuantizerConfig>,
    /// Its bias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<QuantizerConfig>,
    /// What the layer hands on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<QuantizerConfig>,
    /// The time constants of a spiking layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tau: Option<QuantizerConfig>,
    /// The decays of a spiking layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<QuantizerConfig>,
    /// The gradient that reaches the layer's output on the way back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<QuantizerConfig>,
    /// The gradient of its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient: Option<QuantizerConfig>,
}

impl QConfig {
    /// Every slot with its name, in order.
    pub fn slots(&self) -> [(&'static str, &Option<QuantizerConfig>); 8] {
        [
            ("input", &self.input),
            ("weight", &self.weight),
            ("bias", &self.bias),
            ("output", &self.output),
            ("tau", &self.tau),
            ("alpha", &self.alpha),
            ("error", &self.error),
            ("gradient", &self.gradient),
        ]
    }

    /// Whether every slot that is given can be built, and its layers have that slot.
    pub fn check(&self) -> Result<(), Error> {
        for (slot, quantizer) in self.slots() {
            let Some(quantizer) = quantizer else { continue };
            if matches!(slot, "tau" | "alpha" | "error" | "gradient") {
                return Err(Error::config(slot, "no layer has this slot yet"));
            }
            quantizer.check(slot)?;
        }
        Ok(())
    }

    /// Builds the quantizers of a layer whose weight has the given channel dimension.
    pub fn init(&self, weight_channels: Option<Channels>, device: &Device) -> Quantizers {
        let build = |slot: &Option<QuantizerConfig>, channels| {
            slot.as_ref().map(|config| config.init(channels, device))
        };
        Quantizers {
            input: build(&self.input, None),
            weight: build(&self.weight, weight_channels),
            bias: build(&self.bias, None),
            output: build(&self.output, None),
            ..Quantizers::default()
        }
    }
}
