//! TQT: a power-of-two scale from a trained threshold.

use std::ops::RangeInclusive;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor};
use lowbit_formats::Rounding;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::Quantization;
use crate::quantizers::integers::Integers;
use crate::quantizers::methods::method::{
    Calibration, Channels, Group, Learned, Method, Role, TensorKind, yes,
};
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::{Grids, Observed, Switch};

/// A threshold whose logarithm is trained (Jain et al., arXiv 1903.08066); see
/// [`trained_threshold`](crate::ops::trained_threshold()) for the formulas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedThresholdConfig {
    /// Bits of the integers, sign included, 2 to 24.
    pub bits: u32,
    /// One threshold per output channel of a weight, instead of one per tensor.
    #[serde(default)]
    pub per_channel: bool,
    /// How calibration chooses the threshold.
    #[serde(default)]
    pub init: ThresholdInit,
    /// Whether the threshold trains (retrain mode), or keeps the value that calibration gave it
    /// (static mode).
    #[serde(default = "yes")]
    pub retrain: bool,
    /// `nearest-even`, or `nearest-up` for hardware that adds a half and shifts.
    #[serde(default, skip_serializing_if = "is_even")]
    pub rounding: Rounding,
}

fn is_even(rounding: &Rounding) -> bool {
    *rounding == Rounding::NearestEven
}

impl TrainedThresholdConfig {
    /// Widths of the integers.
    pub const BITS: RangeInclusive<u32> = 2..=24;

    /// One trained threshold per tensor.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            per_channel: false,
            init: ThresholdInit::Max,
            retrain: true,
            rounding: Rounding::NearestEven,
        }
    }

    /// Builds the quantizer, with threshold 1 and signed integers until it is calibrated.
    /// `channels` is the tensor's channel dimension, where it has one.
    pub fn init(&self, channels: Option<Channels>, device: &Device) -> TrainedThreshold {
        let channels = channels.filter(|_| self.per_channel);
        let (axis, count) = channels.map_or((0, 1), |c| (c.axis, c.count));
        let log2_threshold = Param::from_tensor(Tensor::zeros([count], device));
        TrainedThreshold {
            log2_threshold: log2_threshold.set_require_grad(self.retrain),
            signed: Param::from_tensor(Tensor::ones([1], device)).set_require_grad(false),
            bits: self.bits,
            init: self.init,
            rounding: self.rounding,
            axis,
            switch: Switch::default(),
        }
    }
}

/// The module of [`TrainedThresholdConfig`].
#[derive(Module, Debug)]
pub struct TrainedThreshold {
    /// Base-2 logarithm of the threshold, `[1]` or `[channels]`.
    pub log2_threshold: Param<Tensor<1>>,
    /// 1.0 for signed integers, 0.0 for unsigned, `[1]`. Set by calibration, not trained.
    pub signed: Param<Tensor<1>>,
    /// Bits of the integers, sign included.
    pub bits: u32,
    #[module(skip)]
    init: ThresholdInit,
    #[module(skip)]
    rounding: Rounding,
    axis: usize,
    /// On or off.
    pub switch: Switch,
}

/// The name of the field, and of the parameter in a record.
const LOG2_THRESHOLD: &str = "log2_threshold";
/// The name of the field, and of the parameter in a record.
const SIGNED: &str = "signed";

impl Method for TrainedThreshold {
    type Config = TrainedThresholdConfig;

    const NAME: &'static str = "tqt";
    const BITS: Option<RangeInclusive<u32>> = Some(TrainedThresholdConfig::BITS);
    /// Thresholds decay under no optimizer: their gradient has no natural scale (appendix B).
    const LEARNED: &'static [Learned] = &[
        Learned::trained(LOG2_THRESHOLD, Role::Log2Threshold, Group::Thresholds),
        Learned::set(SIGNED, Role::Signedness),
    ];

    fn bits(config: &TrainedThresholdConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut TrainedThresholdConfig, bits: u32) {
        config.bits = bits;
    }

    fn set_trained(config: &mut TrainedThresholdConfig, trained: bool) {
        config.retrain = trained;
    }

    fn check(config: &TrainedThresholdConfig, slot: &str) -> Result<(), Error> {
        if config.per_channel && slot != "weight" {
            return Err(Error::config(slot, "per_channel is for a weight"));
        }
        let rounding = config.rounding;
        if !matches!(rounding, Rounding::NearestEven | Rounding::NearestUp) {
            let message = format!("rounding = {rounding}, expected nearest-even or nearest-up");
            return Err(Error::config(slot, message));
        }
        Ok(())
    }

    fn has_integers(_config: &TrainedThresholdConfig) -> bool {
        true
    }

    fn init(config: &TrainedThresholdConfig, channels: Option<Channels>, device: &Device) -> Self {
        config.init(channels, device)
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::TrainedThreshold {
            log2_threshold: self.log2_threshold.val(),
            signed: self.signed.val(),
            bits: self.bits,
            ties: self.rounding,
            axis: self.axis,
        }
    }

    fn integers(&self) -> Option<Integers> {
        let read = |t: Tensor<1>| t.into_data().iter::<f32>().collect::<Vec<_>>();
        let signed = read(self.signed.val()).first() != Some(&0.0);
        let log2_threshold = read(self.log2_threshold.val());
        Some(Integers::below_thresholds(
            self.bits,
            signed,
            &log2_threshold,
        ))
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            id: self.log2_threshold.id,
            bits: self.bits,
            init: self.init,
            thresholds: self.log2_threshold.dims()[0],
            axis: self.axis,
        })
    }

    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        match field {
            LOG2_THRESHOLD => Some(calibration.log2_threshold.to_vec()),
            SIGNED => Some(vec![f32::from(u8::from(calibration.signed))]),
            _ => None,
        }
    }

    fn measured(&self) -> Option<(ParamId, Grids)> {
        let integers = self.integers()?;
        let axis = self.axis;
        Some((self.log2_threshold.id, Grids { integers, axis }))
    }
}
