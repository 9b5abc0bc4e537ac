//! PACT: activations clipped at a learned value.

use std::ops::RangeInclusive;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::ops::Quantization;
use crate::quantizers::methods::method::{
    Calibration, Channels, Group, Learned, Method, Role, TensorKind, yes,
};
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::{Observed, Switch};

/// A clip that is learned (Choi et al., arXiv 1805.06085); see
/// [`learned_clip`](crate::ops::learned_clip()) for the formulas.
///
/// The clip trains as the weights do and decays with them, which is the paper's L2 regularizer with
/// the weights' coefficient (sections 4 and 4.2). Calibration starts it; the paper starts from a
/// value that is larger than activations are, such as 10, and lets the regularizer bring it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PactConfig {
    /// Bits of the result, 1 to 16.
    pub bits: u32,
    /// How calibration chooses the clip.
    #[serde(default)]
    pub init: ThresholdInit,
    /// Whether the clip trains, or keeps the value that calibration gave it.
    #[serde(default = "yes")]
    pub retrain: bool,
}

impl PactConfig {
    /// Widths of the results.
    pub const BITS: RangeInclusive<u32> = 1..=16;

    /// A clip that trains, from the largest value.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            init: ThresholdInit::Max,
            retrain: true,
        }
    }
}

/// The module of [`PactConfig`].
#[derive(Module, Debug)]
pub struct Pact {
    /// The value at which the input is clipped, `[1]`.
    pub clip: Param<Tensor<1>>,
    /// Bits of the result.
    pub bits: u32,
    #[module(skip)]
    init: ThresholdInit,
    /// On or off.
    pub switch: Switch,
}

/// The name of the field, and of the parameter in a record.
const CLIP: &str = "clip";

impl Method for Pact {
    type Config = PactConfig;

    const NAME: &'static str = "pact";
    const BITS: Option<RangeInclusive<u32>> = Some(PactConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["input", "output"]);
    const LEARNED: &'static [Learned] =
        &[Learned::trained(CLIP, Role::Clip, Group::Weights).decaying()];

    fn bits(config: &PactConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut PactConfig, bits: u32) {
        config.bits = bits;
    }

    fn set_trained(config: &mut PactConfig, trained: bool) {
        config.retrain = trained;
    }

    /// Until it is calibrated, the clip is 1.
    fn init(config: &PactConfig, _channels: Option<Channels>, device: &Device) -> Self {
        let clip = Param::from_tensor(Tensor::ones([1], device));
        Self {
            clip: clip.set_require_grad(config.retrain),
            bits: config.bits,
            init: config.init,
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::LearnedClip {
            clip: self.clip.val(),
            bits: self.bits,
        }
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            id: self.clip.id,
            bits: self.bits,
            init: self.init,
            thresholds: 1,
            axis: 0,
        })
    }

    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        (field == CLIP).then(|| calibration.thresholds())
    }
}
