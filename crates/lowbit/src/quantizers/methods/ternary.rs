//! Ternary weights: of values that follow from the weights, and of values that are learned.

use std::ops::RangeInclusive;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use lowbit_formats::kernel;
use serde::{Deserialize, Serialize};

use crate::ops::{Quantization, TernaryGradient, count_rows};
use crate::quantizers::methods::binary::mean_magnitude;
use crate::quantizers::methods::method::{
    Calibration, Channels, Group, Learned, Method, Role, TensorKind, yes,
};
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::{Histogram, Observed, Switch};

/// Ternary weight networks (Li, Zhang, Liu, arXiv 1605.04711): 0 where `|w|` is at most the
/// threshold `0.7 E[|w|]`, elsewhere `sign(w)` times the mean magnitude of those beyond it (equations
/// 3 and 5). The gradient passes straight through. The factor is that of the paper's first two
/// versions; the third, of 2022, has 0.75 (section 2.3), and in its algorithm a threshold for each
/// filter, which is `per_channel`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwnConfig {
    /// A threshold and a value for each output channel, instead of one for all.
    #[serde(default)]
    pub per_channel: bool,
}

/// The module of [`TwnConfig`].
#[derive(Module, Debug)]
pub struct TwnWeight {
    #[module(skip)]
    axis: Option<usize>,
    /// On or off.
    pub switch: Switch,
}

impl Method for TwnWeight {
    type Config = TwnConfig;

    const NAME: &'static str = "twn-weight";
    const BITS: Option<RangeInclusive<u32>> = None;
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);

    fn bits(_config: &TwnConfig) -> u32 {
        2
    }

    fn set_bits(_config: &mut TwnConfig, _bits: u32) {}

    fn init(config: &TwnConfig, channels: Option<Channels>, _device: &Device) -> Self {
        let channels = channels.filter(|_| config.per_channel);
        Self {
            axis: channels.map(|channels| channels.axis),
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        let found = count_rows(x, self.axis, |weights| {
            let threshold = 0.7 * mean_magnitude(weights);
            (threshold, mean_beyond(weights, threshold))
        });
        let (thresholds, values): (Vec<f32>, Vec<f32>) = found.into_iter().unzip();
        let tensor = |values: &[f32]| Tensor::from_floats(values, &x.device());
        Quantization::Ternary {
            parameters: [tensor(&values), tensor(&values), tensor(&thresholds)],
            gradient: TernaryGradient::Pass,
            axis: self.axis.unwrap_or(0),
        }
    }
}

/// The mean magnitude of the weights beyond a threshold; zero where there are none.
fn mean_beyond(weights: &[f32], threshold: f32) -> f32 {
    let (sum, count) = kernel::fold(
        weights,
        (0.0, 0.0),
        |(sum, count), w| match w.abs() > threshold {
            true => (sum + f64::from(w.abs()), count + 1.0),
            false => (sum, count),
        },
        |a, b| (a.0 + b.0, a.1 + b.1),
    );
    if count > 0.0 {
        (sum / count) as f32
    } else {
        0.0
    }
}

/// Trained ternary quantization (Zhu, Han, Mao, Dally, arXiv 1612.01064): 0 where `|w|` is at most
/// the threshold `0.05 max |w|`, a learned value above it and another below; see
/// [`ternary`](crate::ops::ternary()) for the gradients. Calibration starts both from the mean
/// magnitude of the weights on their side; the authors' implementation starts both from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtqConfig {
    /// Whether the two values train, or keep what calibration gave them.
    #[serde(default = "yes")]
    pub retrain: bool,
}

impl Default for TtqConfig {
    fn default() -> Self {
        Self { retrain: true }
    }
}

/// The module of [`TtqConfig`].
#[derive(Module, Debug)]
pub struct TtqWeight {
    /// What weights above the threshold become, `[1]`.
    pub positive: Param<Tensor<1>>,
    /// What those below its opposite become, without the sign, `[1]`.
    pub negative: Param<Tensor<1>>,
    /// On or off.
    pub switch: Switch,
}

/// The threshold over the largest magnitude, which the paper's experiments have.
const THRESHOLD: f32 = 0.05;

/// The name of the field, and of the parameter in a record.
const POSITIVE: &str = "positive";
/// The name of the field, and of the parameter in a record.
const NEGATIVE: &str = "negative";

impl Method for TtqWeight {
    type Config = TtqConfig;

    const NAME: &'static str = "ttq-weight";
    const BITS: Option<RangeInclusive<u32>> = None;
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);
    const LEARNED: &'static [Learned] = &[
        Learned::trained(POSITIVE, Role::Value, Group::Weights),
        Learned::trained(NEGATIVE, Role::Value, Group::Weights),
    ];

    fn bits(_config: &TtqConfig) -> u32 {
        2
    }

    fn set_bits(_config: &mut TtqConfig, _bits: u32) {}

    fn set_trained(config: &mut TtqConfig, trained: bool) {
        config.retrain = trained;
    }

    /// Until it is calibrated, both values are 1.
    fn init(config: &TtqConfig, _channels: Option<Channels>, device: &Device) -> Self {
        let one = || {
            let one = Param::from_tensor(Tensor::ones([1], device));
            one.set_require_grad(config.retrain)
        };
        Self {
            positive: one(),
            negative: one(),
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        let threshold = count_rows(x, None, |weights| THRESHOLD * kernel::max_abs(weights));
        let threshold = Tensor::from_floats(&threshold[..], &x.device());
        Quantization::Ternary {
            parameters: [self.positive.val(), self.negative.val(), threshold],
            gradient: TernaryGradient::Scaled,
            axis: 0,
        }
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            id: self.positive.id,
            bits: 2,
            init: ThresholdInit::Max,
            thresholds: 1,
            axis: 0,
        })
    }

    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        let of_side = |negative| {
            let of_each = calibration.histograms.iter();
            Some(of_each.map(|h| mean_of_side(h, negative)).collect())
        };
        match field {
            POSITIVE => of_side(false),
            NEGATIVE => of_side(true),
            _ => None,
        }
    }
}

/// The mean magnitude of the values of one sign beyond the threshold; where there are none, that of
/// all values.
fn mean_of_side(values: &Histogram, negative: bool) -> f32 {
    let threshold = f64::from(THRESHOLD * values.largest());
    let (mut sum, mut count) = (0.0, 0);
    for bin in values.bins() {
        if bin.is_negative() == negative && bin.middle() > threshold {
            sum += bin.middle() * bin.count() as f64;
            count += bin.count();
        }
    }
    match count {
        0 => values.mean_magnitude().max(f64::from(f32::MIN_POSITIVE)) as f32,
        _ => (sum / count as f64) as f32,
    }
}
