//! What is quantized in one layer.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::quantizers::{AccumulatorConfig, Channels, QuantizerConfig, Quantizers};

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
    /// The sum of its products or distances, before the bias; in TOML, `accumulator = { bits = 32 }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulator: Option<AccumulatorConfig>,
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
    /// Every slot that has a quantizer, with its name, in order.
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
        let Some(accumulator) = &self.accumulator else {
            return Ok(());
        };
        accumulator.check()?;
        for (slot, quantizer) in [("input", &self.input), ("weight", &self.weight)] {
            if let Some(quantizer) = quantizer {
                quantizer.check_power_of_two(slot)?;
            }
        }
        Ok(())
    }

    /// Whether an accumulator, if there is one, knows its step: the weight's times the input's,
    /// both powers of two. `own_weight` says that the layer quantizes its weight by itself.
    pub(super) fn check_accumulator(&self, own_weight: bool) -> Result<(), Error> {
        if self.accumulator.is_none() {
            return Ok(());
        }
        let present = [
            ("input", self.input.is_some()),
            ("weight", own_weight || self.weight.is_some()),
        ];
        match present.iter().find(|(_, present)| !present) {
            None => self.check(),
            Some((slot, _)) => Err(Error::config(
                "accumulator",
                format!("{slot} is in float, expected one with a power-of-two step"),
            )),
        }
    }

    /// The same without the slots for which `has` is false.
    pub(super) fn restricted(mut self, has: impl Fn(&str) -> bool) -> Self {
        let slots = [
            ("input", &mut self.input),
            ("weight", &mut self.weight),
            ("bias", &mut self.bias),
            ("output", &mut self.output),
        ];
        for (name, slot) in slots {
            if !has(name) {
                *slot = None;
            }
        }
        if !has("accumulator") {
            self.accumulator = None;
        }
        self
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
            accumulator: self.accumulator.as_ref().map(AccumulatorConfig::init),
            output: build(&self.output, None),
            ..Quantizers::default()
        }
    }
}
