//! DoReFa-Net: weights through a hyperbolic tangent, activations clipped to the unit interval.
//!
//! Zhou et al., arXiv 1606.06160.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::Device;
use lowbit_formats::{Format, Rounding, UnitGrid};
use serde::{Deserialize, Serialize};

use crate::ops::{ClampedGradient, Quantization};
use crate::quantizers::methods::method::{Channels, Method};
use crate::quantizers::watch::Switch;

/// Bits of a DoReFa-Net quantizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DorefaConfig {
    /// Bits of the result.
    pub bits: u32,
}

impl DorefaConfig {
    /// Widths of a weight.
    pub const WEIGHT_BITS: RangeInclusive<u32> = 1..=24;
    /// Widths of an activation.
    pub const ACTIVATION_BITS: RangeInclusive<u32> = 1..=16;

    /// Builds the quantizer of a weight.
    pub fn init_weight(&self) -> DorefaWeight {
        DorefaWeight {
            bits: self.bits,
            switch: Switch::default(),
        }
    }

    /// Builds the quantizer of an activation.
    ///
    /// # Panics
    /// If `bits` is out of its range.
    pub fn init_activation(&self) -> DorefaActivation {
        let bits = u8::try_from(self.bits).unwrap_or(u8::MAX);
        let format = UnitGrid::new(bits).expect("a configuration is checked before it is built");
        DorefaActivation {
            format: format.into(),
            switch: Switch::default(),
        }
    }
}

/// Quantizes a weight; see [`dorefa_weight`](crate::ops::dorefa_weight()).
#[derive(Module, Debug)]
pub struct DorefaWeight {
    /// Bits of the result.
    pub bits: u32,
    /// On or off.
    pub switch: Switch,
}

impl Method for DorefaWeight {
    type Config = DorefaConfig;

    const NAME: &'static str = "dorefa-weight";
    const BITS: Option<RangeInclusive<u32>> = Some(DorefaConfig::WEIGHT_BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);
    const TRANSFORMS: bool = true;

    fn bits(config: &DorefaConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut DorefaConfig, bits: u32) {
        config.bits = bits;
    }

    fn init(config: &DorefaConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        config.init_weight()
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization(&self, _numbers: usize) -> Quantization {
        Quantization::DorefaWeight { bits: self.bits }
    }
}

/// Quantizes an activation: `round((2^k - 1) x) / (2^k - 1)` of `x` clipped to `[0, 1]`
/// (equations 5 and 11); the gradient is zero where `x` was clipped.
#[derive(Module, Debug)]
pub struct DorefaActivation {
    /// The grid on the unit interval.
    #[module(skip)]
    format: Format,
    /// On or off.
    pub switch: Switch,
}

impl Method for DorefaActivation {
    type Config = DorefaConfig;

    const NAME: &'static str = "dorefa-activation";
    const BITS: Option<RangeInclusive<u32>> = Some(DorefaConfig::ACTIVATION_BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["input", "output"]);

    fn bits(config: &DorefaConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut DorefaConfig, bits: u32) {
        config.bits = bits;
    }

    fn init(config: &DorefaConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        config.init_activation()
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization(&self, _numbers: usize) -> Quantization {
        Quantization::Format {
            format: self.format.clone(),
            rounding: Rounding::NearestEven,
            clamped: ClampedGradient::Zero,
        }
    }
}
