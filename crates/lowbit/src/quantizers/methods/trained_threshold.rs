//! TQT: a power-of-two scale from a trained threshold.

use std::ops::RangeInclusive;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::ops::Quantization;
use crate::quantizers::Channels;
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::ModulePath;
use crate::quantizers::watch::Switch;
use crate::quantizers::watch::observe::{self, Observed};
use crate::quantizers::watch::quality::{self, Grids};

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
}

fn yes() -> bool {
    true
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
    axis: usize,
    /// On or off.
    pub switch: Switch,
}

impl TrainedThreshold {
    pub(crate) fn quantization(&self) -> Quantization {
        Quantization::TrainedThreshold {
            log2_threshold: self.log2_threshold.val(),
            signed: self.signed.val(),
            bits: self.bits,
            axis: self.axis,
        }
    }

    pub(crate) fn observe<const D: usize>(&self, x: &Tensor<D>, parameter: bool) {
        let quantizer = Observed {
            id: self.log2_threshold.id,
            bits: self.bits,
            init: self.init,
            thresholds: self.log2_threshold.dims()[0],
            axis: self.axis,
            parameter,
        };
        observe::record(&quantizer, x);
    }

    pub(crate) fn measure<const D: usize>(&self, x: &Tensor<D>, q: &Tensor<D>, parameter: bool) {
        let read = |t: Tensor<1>| t.into_data().iter::<f32>().collect::<Vec<_>>();
        let grids = Grids {
            bits: self.bits,
            signed: read(self.signed.val())[0] != 0.0,
            log2_threshold: read(self.log2_threshold.val()),
            axis: self.axis,
            parameter,
        };
        quality::record(self.log2_threshold.id, &grids, x, q);
    }
}

/// The first tensor with a threshold that is not a positive number, and its logarithm.
pub fn bad_threshold<M: Module>(module: &M) -> Option<(String, f32)> {
    let mut find = FindBad::default();
    module.visit(&mut find);
    find.found
}

#[derive(Default)]
struct FindBad {
    path: ModulePath,
    found: Option<(String, f32)>,
}

impl ModuleVisitor for FindBad {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.found.is_some() || self.path.field() != "log2_threshold" {
            return;
        }
        let data = param.val().into_data();
        let bad = data.iter::<f32>().find(|log2| !log2.is_finite());
        let place = self.path.place();
        self.found = bad.map(|log2| (place.map_or("it".into(), |p| p.to_string()), log2));
    }
}
