//! Learned widths: fixed point whose bits are learned, tensor by tensor or channel by channel.

use std::ops::RangeInclusive;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::Quantization;
use crate::quantizers::methods::method::{
    Calibration, Channels, Group, Learned, Method, Role, TensorKind, yes,
};
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::{Observed, Switch};

/// Fixed point whose bits before and after the point are learned (HGQ, Sun et al., arXiv 2405.00645);
/// see [`learned_width`](crate::ops::learned_width()) for the formulas.
///
/// Calibration starts them, rounded: the bits before the point hold the largest value, and those after
/// it are what is left of `bits`. Without a penalty on widths, gradients keep them wide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedWidthConfig {
    /// Bits that it starts from, sign included, 2 to 16.
    pub bits: u32,
    /// A width for each output channel of a weight, instead of one for the tensor.
    #[serde(default)]
    pub per_channel: bool,
    /// Whether the widths train, or keep what calibration gave them.
    #[serde(default = "yes")]
    pub retrain: bool,
}

impl LearnedWidthConfig {
    /// Widths to start from.
    pub const BITS: RangeInclusive<u32> = 2..=16;

    /// One width for the tensor, which trains.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            per_channel: false,
            retrain: true,
        }
    }
}

/// The module of [`LearnedWidthConfig`].
#[derive(Module, Debug)]
pub struct LearnedWidth {
    /// Bits after the point, `[1]` or `[channels]`.
    pub fraction_bits: Param<Tensor<1>>,
    /// Bits before it, without the sign, of the same shape.
    pub integer_bits: Param<Tensor<1>>,
    /// 1.0 for signed values, 0.0 for unsigned, `[1]`. Set by calibration, not trained.
    pub signed: Param<Tensor<1>>,
    bits: u32,
    axis: usize,
    /// On or off.
    pub switch: Switch,
}

/// The name of the field, and of the parameter in a record.
const FRACTION_BITS: &str = "fraction_bits";
/// The name of the field, and of the parameter in a record.
const INTEGER_BITS: &str = "integer_bits";
/// The name of the field, and of the parameter in a record.
const SIGNED: &str = "signed";

/// How far from whole numbers the bits start, those before the point above and those after it below:
/// under a penalty on their sum both fall alike, and are not to lose a bit in the same step.
const APART: f32 = 0.25;

impl Method for LearnedWidth {
    type Config = LearnedWidthConfig;

    const NAME: &'static str = "learned-width";
    const BITS: Option<RangeInclusive<u32>> = Some(LearnedWidthConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["input", "weight", "output"]);
    const LEARNED: &'static [Learned] = &[
        Learned::trained(FRACTION_BITS, Role::Bits, Group::Thresholds),
        Learned::trained(INTEGER_BITS, Role::Bits, Group::Thresholds),
        Learned::set(SIGNED, Role::Signedness),
    ];

    fn bits(config: &LearnedWidthConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut LearnedWidthConfig, bits: u32) {
        config.bits = bits;
    }

    fn set_trained(config: &mut LearnedWidthConfig, trained: bool) {
        config.retrain = trained;
    }

    fn check(config: &LearnedWidthConfig, slot: &str) -> Result<(), Error> {
        if config.per_channel && slot != "weight" {
            return Err(Error::config(slot, "per_channel is for a weight"));
        }
        Ok(())
    }

    /// Until it is calibrated, the values are signed and from -1 to 1.
    fn init(config: &LearnedWidthConfig, channels: Option<Channels>, device: &Device) -> Self {
        let channels = channels.filter(|_| config.per_channel);
        let (axis, count) = channels.map_or((0, 1), |c| (c.axis, c.count));
        let trained = |value| {
            let param = Param::from_tensor(Tensor::full([count], value, device));
            param.set_require_grad(config.retrain)
        };
        Self {
            fraction_bits: trained(config.bits as f32 - 1.0),
            integer_bits: trained(0.0),
            signed: Param::from_tensor(Tensor::ones([1], device)).set_require_grad(false),
            bits: config.bits,
            axis,
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::LearnedWidth {
            fraction_bits: self.fraction_bits.val(),
            integer_bits: self.integer_bits.val(),
            signed: self.signed.val(),
            axis: self.axis,
        }
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            id: self.fraction_bits.id,
            bits: self.bits,
            init: ThresholdInit::Max,
            thresholds: self.fraction_bits.dims()[0],
            axis: self.axis,
        })
    }

    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        let integer_bits = calibration.log2_threshold.iter().map(|log2| log2.ceil());
        let magnitude_bits = calibration.bits as f32 - f32::from(u8::from(calibration.signed));
        match field {
            INTEGER_BITS => Some(integer_bits.map(|bits| bits + APART).collect()),
            FRACTION_BITS => {
                let fraction_bits = integer_bits.map(|bits| magnitude_bits - bits - APART);
                Some(fraction_bits.collect())
            }
            SIGNED => Some(vec![f32::from(u8::from(calibration.signed))]),
            _ => None,
        }
    }
}
