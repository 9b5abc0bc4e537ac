//! Binary values: the sign, alone or times a mean.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::kernel;
use serde::{Deserialize, Serialize};

use crate::ops::{Quantization, count_rows};
use crate::quantizers::methods::method::{Channels, Method, TensorKind, yes};
use crate::quantizers::watch::Switch;

/// The sign of weights or activations, with the clipped straight-through estimator (Hubara et al.,
/// arXiv 1602.02830); see [`sign`](crate::ops::sign()).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinaryConfig {}

/// The module of [`BinaryConfig`].
#[derive(Module, Debug)]
pub struct Binary {
    /// On or off.
    pub switch: Switch,
}

impl Method for Binary {
    type Config = BinaryConfig;

    const NAME: &'static str = "binary";
    const BITS: Option<RangeInclusive<u32>> = None;
    const SLOTS: Option<&'static [&'static str]> = Some(&["input", "weight", "output"]);

    fn bits(_config: &BinaryConfig) -> u32 {
        1
    }

    fn set_bits(_config: &mut BinaryConfig, _bits: u32) {}

    fn init(_config: &BinaryConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        Self {
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::Sign
    }
}

/// The sign of weights times their mean magnitude (XNOR-Net, Rastegari et al., arXiv 1603.05279,
/// section 3.1), one mean for each output channel, as the paper has it, or one for all; see
/// [`scaled_sign`](crate::ops::scaled_sign()) for the gradient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XnorConfig {
    /// One mean for each output channel.
    #[serde(default = "yes")]
    pub per_channel: bool,
    /// The gradient to the weights.
    #[serde(default)]
    pub gradient: XnorGradient,
}

/// The gradient to weights of which the sign is taken, times a mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XnorGradient {
    /// `1/n + mean 1{|w| <= 1}` times that of the result (section 3.1).
    #[default]
    Paper,
    /// That of the result.
    Pass,
}

impl Default for XnorConfig {
    fn default() -> Self {
        Self {
            per_channel: true,
            gradient: XnorGradient::Paper,
        }
    }
}

/// The module of [`XnorConfig`].
#[derive(Module, Debug)]
pub struct XnorWeight {
    #[module(skip)]
    axis: Option<usize>,
    #[module(skip)]
    gradient: XnorGradient,
    /// On or off.
    pub switch: Switch,
}

impl Method for XnorWeight {
    type Config = XnorConfig;

    const NAME: &'static str = "xnor-weight";
    const BITS: Option<RangeInclusive<u32>> = None;
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);

    fn bits(_config: &XnorConfig) -> u32 {
        1
    }

    fn set_bits(_config: &mut XnorConfig, _bits: u32) {}

    fn init(config: &XnorConfig, channels: Option<Channels>, _device: &Device) -> Self {
        let channels = channels.filter(|_| config.per_channel);
        Self {
            axis: channels.map(|channels| channels.axis),
            gradient: config.gradient,
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, kind: TensorKind) -> Quantization {
        let means = count_rows(x, self.axis, mean_magnitude);
        let numbers = kind.numbers(x) / means.len().max(1);
        Quantization::ScaledSign {
            scale: Tensor::from_floats(&means[..], &x.device()),
            through_scale: match self.gradient {
                XnorGradient::Paper => Some(1.0 / numbers as f32),
                XnorGradient::Pass => None,
            },
            axis: self.axis.unwrap_or(0),
        }
    }
}

/// `E[|w|]`
pub(super) fn mean_magnitude(weights: &[f32]) -> f32 {
    let sum = kernel::fold(
        weights,
        0.0,
        |sum, w| sum + f64::from(w.abs()),
        |a, b| a + b,
    );
    (sum / weights.len() as f64) as f32
}
