//! APoT: sums of powers of two under a learned scale.

use std::ops::RangeInclusive;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use lowbit_formats::{AdditivePowerOfTwo, Codebook, Format, kernel};
use serde::{Deserialize, Serialize};

use crate::ops::{ClampedGradient, Line, Quantization, count_rows};
use crate::quantizers::methods::method::{
    Calibration, Channels, Group, Learned, Method, Role, TensorKind, yes,
};
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::{Observed, Switch};

/// Bits of an APoT quantizer (Li, Dong, Wang, arXiv 1909.13144, with the base width k = 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApotConfig {
    /// Bits of the result, 2 to 8.
    pub bits: u32,
    /// Whether the scale trains, or keeps what it started from.
    #[serde(default = "yes")]
    pub retrain: bool,
}

impl ApotConfig {
    /// Widths of the results.
    pub const BITS: RangeInclusive<u32> = 2..=8;

    /// A scale that trains.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            retrain: true,
        }
    }

    /// The magnitudes of so many bits, from 0 to 1.
    fn magnitudes(bits: u32) -> Vec<f32> {
        if bits == 1 {
            return vec![0.0, 1.0];
        }
        let format = AdditivePowerOfTwo::new(bits as u8 + 1, 1.0);
        let format = format.expect("2 to 8 bits of magnitudes are in its range");
        let values = format.values().iter().copied();
        values.filter(|&value| value >= 0.0).collect()
    }

    /// The values of a weight, from -1 to 1: one bit is the sign.
    fn signed(&self) -> Format {
        let table = Codebook::with_sign(&Self::magnitudes(self.bits - 1));
        table.expect("magnitudes are distinct").into()
    }

    /// The values of an activation, from 0 to 1.
    fn unsigned(&self) -> Format {
        let table = Codebook::new(&Self::magnitudes(self.bits));
        table.expect("magnitudes are distinct").into()
    }
}

/// Quantizes a weight, of which the mean is subtracted and which is divided by its standard
/// deviation; see [`scaled_format`](crate::ops::scaled_format()). The scale starts from 3, which is
/// three deviations. The gradient passes where a weight is clipped, and mean and deviation are
/// constants on the way back. All this is as in the authors' implementation, but that its deviation
/// is that of a sample.
#[derive(Module, Debug)]
pub struct ApotWeight {
    /// The scale, `[1]`.
    pub scale: Param<Tensor<1>>,
    #[module(skip)]
    format: Format,
    /// On or off.
    pub switch: Switch,
}

/// The name of the field, and of the parameter in a record.
const SCALE: &str = "scale";

/// The scale, which calibration starts.
const CALIBRATED: Learned = Learned::trained(SCALE, Role::Clip, Group::Weights).decaying();

/// What a weight's scale starts from.
const THREE_DEVIATIONS: f32 = 3.0;

/// What is added to a deviation before it divides.
const EPSILON: f64 = 1e-5;

impl Method for ApotWeight {
    type Config = ApotConfig;

    const NAME: &'static str = "apot-weight";
    const BITS: Option<RangeInclusive<u32>> = Some(ApotConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);
    const LEARNED: &'static [Learned] = &[Learned {
        calibrated: false,
        ..CALIBRATED
    }];
    const TRANSFORMS: bool = true;

    fn bits(config: &ApotConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut ApotConfig, bits: u32) {
        config.bits = bits;
    }

    fn set_trained(config: &mut ApotConfig, trained: bool) {
        config.retrain = trained;
    }

    fn init(config: &ApotConfig, _channels: Option<Channels>, device: &Device) -> Self {
        let scale = Param::from_tensor(Tensor::full([1], THREE_DEVIATIONS, device));
        Self {
            scale: scale.set_require_grad(config.retrain),
            format: config.signed(),
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        let lines = count_rows(x, None, |weights| {
            let count = weights.len() as f64;
            let mean = kernel::sum(weights) / count;
            let squares = kernel::fold(
                weights,
                0.0,
                |sum, w| sum + (f64::from(w) - mean).powi(2),
                |a, b| a + b,
            );
            Line {
                mean: mean as f32,
                gain: (1.0 / ((squares / count).sqrt() + EPSILON)) as f32,
            }
        });
        Quantization::ScaledFormat {
            scale: self.scale.val(),
            format: self.format.clone(),
            line: lines[0],
            clamped: ClampedGradient::Pass,
        }
    }
}

/// Quantizes an activation that is not negative; see [`scaled_format`](crate::ops::scaled_format()).
/// Calibration starts the scale from the largest value; the authors' implementation starts it
/// from 8.
#[derive(Module, Debug)]
pub struct ApotActivation {
    /// The scale, `[1]`.
    pub scale: Param<Tensor<1>>,
    bits: u32,
    #[module(skip)]
    format: Format,
    /// On or off.
    pub switch: Switch,
}

impl Method for ApotActivation {
    type Config = ApotConfig;

    const NAME: &'static str = "apot-activation";
    const BITS: Option<RangeInclusive<u32>> = Some(ApotConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["input", "output"]);
    const LEARNED: &'static [Learned] = &[CALIBRATED];

    fn bits(config: &ApotConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut ApotConfig, bits: u32) {
        config.bits = bits;
    }

    fn set_trained(config: &mut ApotConfig, trained: bool) {
        config.retrain = trained;
    }

    /// Until it is calibrated, the scale is 1.
    fn init(config: &ApotConfig, _channels: Option<Channels>, device: &Device) -> Self {
        let scale = Param::from_tensor(Tensor::ones([1], device));
        Self {
            scale: scale.set_require_grad(config.retrain),
            bits: config.bits,
            format: config.unsigned(),
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::ScaledFormat {
            scale: self.scale.val(),
            format: self.format.clone(),
            line: Line::default(),
            clamped: ClampedGradient::Zero,
        }
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            id: self.scale.id,
            bits: self.bits,
            init: ThresholdInit::Max,
            thresholds: 1,
            axis: 0,
        })
    }

    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        (field == SCALE).then(|| calibration.thresholds())
    }
}
