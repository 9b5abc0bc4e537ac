//! DoReFa-Net: weights through a hyperbolic tangent, activations clipped to the unit interval.
//!
//! Zhou et al., arXiv 1606.06160.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::{Format, Rounding, UnitGrid};
use serde::{Deserialize, Serialize};

use crate::ops::{
    ClampedGradient, DorefaReading, GradientQuantization, GradientRange, Quantization,
};
use crate::quantizers::methods::format::Draws;
use crate::quantizers::methods::method::{Channels, Method, TensorKind};
use crate::quantizers::watch::Switch;

/// Bits of a DoReFa-Net quantizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DorefaConfig {
    /// Bits of the result.
    pub bits: u32,
}

impl DorefaConfig {
    /// Widths of an activation, and of its gradient.
    pub const ACTIVATION_BITS: RangeInclusive<u32> = 1..=16;

    /// The grid on the unit interval.
    fn grid(&self) -> Format {
        let bits = u8::try_from(self.bits).unwrap_or(u8::MAX);
        let grid = UnitGrid::new(bits);
        grid.expect("a configuration is checked before it is built")
            .into()
    }

    /// Builds the quantizer of an activation.
    ///
    /// # Panics
    /// If `bits` is out of its range.
    pub fn init_activation(&self) -> DorefaActivation {
        DorefaActivation {
            format: self.grid(),
            switch: Switch::default(),
        }
    }
}

/// How a weight is quantized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DorefaWeightConfig {
    /// Bits of the result.
    pub bits: u32,
    /// What the values from -1 to 1 are multiplied by.
    #[serde(default, skip_serializing_if = "DorefaScale::is_one")]
    pub scale: DorefaScale,
    /// What the maximum is on the way back.
    #[serde(default, skip_serializing_if = "DorefaMaximum::is_differentiated")]
    pub maximum: DorefaMaximum,
}

/// What the values from -1 to 1 of equation 9 are multiplied by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DorefaScale {
    /// 1, as in the paper.
    #[default]
    One,
    /// The largest magnitude of `tanh(w)`, as in some implementations.
    Maximum,
}

impl DorefaScale {
    fn is_one(&self) -> bool {
        *self == Self::One
    }
}

/// What the maximum of equation 9 is on the way back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DorefaMaximum {
    /// A function of the largest weight, as in the paper.
    #[default]
    Differentiated,
    /// A constant, as in some implementations.
    Constant,
}

impl DorefaMaximum {
    fn is_differentiated(&self) -> bool {
        *self == Self::Differentiated
    }
}

impl DorefaWeightConfig {
    /// Widths of a weight.
    pub const BITS: RangeInclusive<u32> = 1..=24;

    /// As in the paper.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            scale: DorefaScale::One,
            maximum: DorefaMaximum::Differentiated,
        }
    }

    /// Builds the quantizer.
    pub fn init(&self) -> DorefaWeight {
        DorefaWeight {
            bits: self.bits,
            reading: DorefaReading {
                scaled_by_maximum: self.scale == DorefaScale::Maximum,
                constant_maximum: self.maximum == DorefaMaximum::Constant,
            },
            switch: Switch::default(),
        }
    }
}

/// Quantizes a weight; see [`dorefa_weight_as`](crate::ops::dorefa_weight_as()).
#[derive(Module, Debug)]
pub struct DorefaWeight {
    /// Bits of the result.
    pub bits: u32,
    #[module(skip)]
    reading: DorefaReading,
    /// On or off.
    pub switch: Switch,
}

impl Method for DorefaWeight {
    type Config = DorefaWeightConfig;

    const NAME: &'static str = "dorefa-weight";
    const BITS: Option<RangeInclusive<u32>> = Some(DorefaWeightConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);
    const TRANSFORMS: bool = true;

    fn bits(config: &DorefaWeightConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut DorefaWeightConfig, bits: u32) {
        config.bits = bits;
    }

    fn init(config: &DorefaWeightConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        config.init()
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::DorefaWeight {
            bits: self.bits,
            reading: self.reading,
        }
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

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::Format {
            format: self.format.clone(),
            rounding: Rounding::NearestEven,
            clamped: ClampedGradient::Zero,
        }
    }
}

/// Quantizes the gradient of an activation, stochastically, over the largest magnitude of each sample
/// (equation 12); see [`GradientRange::UnitOfSample`].
#[derive(Module, Debug)]
pub struct DorefaGradient {
    /// The grid on the unit interval.
    #[module(skip)]
    format: Format,
    /// On or off.
    pub switch: Switch,
    #[module(skip)]
    draws: Draws,
}

impl Method for DorefaGradient {
    type Config = DorefaConfig;

    const NAME: &'static str = "dorefa-gradient";
    const BITS: Option<RangeInclusive<u32>> = Some(DorefaConfig::ACTIVATION_BITS);
    /// A weight's gradient has no samples.
    const SLOTS: Option<&'static [&'static str]> = Some(&["error"]);
    const GRADIENTS: bool = true;

    fn bits(config: &DorefaConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut DorefaConfig, bits: u32) {
        config.bits = bits;
    }

    fn init(config: &DorefaConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        Self {
            format: config.grid(),
            switch: Switch::default(),
            draws: Draws::new(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    /// A tensor that is no gradient is rounded on the unit interval.
    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::Format {
            format: self.format.clone(),
            rounding: self.draws.rounding(Rounding::stochastic(0, 0)),
            clamped: ClampedGradient::Zero,
        }
    }

    fn of_gradient(&self) -> GradientQuantization {
        let rounding = self.draws.rounding(Rounding::stochastic(0, 0));
        GradientQuantization {
            range: GradientRange::UnitOfSample,
            ..GradientQuantization::to(self.format.clone(), rounding)
        }
    }
}
