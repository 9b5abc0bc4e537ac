//! LSQ+: a learned step and a learned offset.

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

/// A step and an offset that are learned (Bhalgat et al., arXiv 2004.09576); see
/// [`offset_step`](crate::ops::offset_step()) for the formulas. The integers are unsigned.
///
/// Calibration starts them from the range of the values, which the integers then cover: the step
/// `(max - min) / (2^b - 1)` and the offset `min`. The paper starts them where the square error is
/// least. Their gradients are scaled by `1 / sqrt(N p)`, with `N` the numbers of one sample and `p`
/// the greatest integer, as in LSQ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LsqPlusConfig {
    /// Bits of the integers, 2 to 16.
    pub bits: u32,
    /// Whether step and offset train, or keep what calibration gave them.
    #[serde(default = "yes")]
    pub retrain: bool,
}

impl LsqPlusConfig {
    /// Widths of the integers.
    pub const BITS: RangeInclusive<u32> = 2..=16;

    /// Step and offset that train.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            retrain: true,
        }
    }
}

/// The module of [`LsqPlusConfig`].
#[derive(Module, Debug)]
pub struct LsqPlus {
    /// The step, `[1]`.
    pub step: Param<Tensor<1>>,
    /// What the integer 0 stands for, `[1]`.
    pub offset: Param<Tensor<1>>,
    /// Bits of the integers.
    pub bits: u32,
    /// On or off.
    pub switch: Switch,
}

/// The name of the field, and of the parameter in a record.
const STEP: &str = "step";
/// The name of the field, and of the parameter in a record.
const OFFSET: &str = "offset";

impl Method for LsqPlus {
    type Config = LsqPlusConfig;

    const NAME: &'static str = "lsq-plus";
    const BITS: Option<RangeInclusive<u32>> = Some(LsqPlusConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["input", "output"]);
    const LEARNED: &'static [Learned] = &[
        Learned::trained(STEP, Role::Step, Group::Weights),
        Learned::trained(OFFSET, Role::Offset, Group::Weights),
    ];

    fn bits(config: &LsqPlusConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut LsqPlusConfig, bits: u32) {
        config.bits = bits;
    }

    fn set_trained(config: &mut LsqPlusConfig, trained: bool) {
        config.retrain = trained;
    }

    /// Until it is calibrated, the step is 1 and the offset 0.
    fn init(config: &LsqPlusConfig, _channels: Option<Channels>, device: &Device) -> Self {
        let param = |tensor| Param::from_tensor(tensor).set_require_grad(config.retrain);
        Self {
            step: param(Tensor::ones([1], device)),
            offset: param(Tensor::zeros([1], device)),
            bits: config.bits,
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, kind: TensorKind) -> Quantization {
        let greatest = greatest(self.bits);
        Quantization::OffsetStep {
            step: self.step.val(),
            offset: self.offset.val(),
            limits: (0, greatest),
            gradient_scale: 1.0 / (kind.numbers(x) as f32 * greatest as f32).sqrt(),
            axis: 0,
        }
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            id: self.step.id,
            bits: self.bits,
            init: ThresholdInit::Max,
            thresholds: 1,
            axis: 0,
        })
    }

    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        let of_each = calibration.histograms.iter();
        match field {
            STEP => {
                let step = |range: f32| match range / greatest(calibration.bits) as f32 {
                    step if step > 0.0 => step,
                    // A constant is its own offset under any step.
                    _ => 1.0,
                };
                Some(of_each.map(|h| step(h.max() - h.min())).collect())
            }
            OFFSET => Some(of_each.map(|h| h.min()).collect()),
            _ => None,
        }
    }
}

/// The greatest integer.
fn greatest(bits: u32) -> i32 {
    (1 << bits) - 1
}
