//! TQT: a power-of-two scale from a trained threshold.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Channels, Switch, observe};
use crate::ops::Quantization;

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
    /// Whether the threshold trains (retrain mode), or keeps the value that calibration gave it
    /// (static mode).
    #[serde(default = "yes")]
    pub retrain: bool,
}

fn yes() -> bool {
    true
}

impl TrainedThresholdConfig {
    /// One trained threshold per tensor.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            per_channel: false,
            retrain: true,
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
    axis: usize,
    /// On or off.
    pub switch: Switch,
}

impl TrainedThreshold {
    pub(super) fn quantization(&self) -> Quantization {
        Quantization::TrainedThreshold {
            log2_threshold: self.log2_threshold.val(),
            signed: self.signed.val(),
            bits: self.bits,
            axis: self.axis,
        }
    }

    pub(super) fn observe<const D: usize>(&self, x: &Tensor<D>) {
        let thresholds = self.log2_threshold.dims()[0];
        observe::record(self.log2_threshold.id, x, thresholds, self.axis);
    }
}
