//! LSQ: a learned step.

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

/// A step that is learned (Esser et al., arXiv 1902.08153); see
/// [`learned_step`](crate::ops::learned_step()) for the formulas.
///
/// Calibration starts it from `2 mean |x| / sqrt(Q_p)` (section 2.1). Its gradient is scaled by
/// `1 / sqrt(N Q_p)`, with `N` the numbers of a weight, or of its channel where each has a step, or
/// those of one sample of an activation (section 2.2). Where calibration sees no negative number the integers are unsigned; a weight's are
/// signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LsqConfig {
    /// Bits of the integers, sign included, 2 to 16.
    pub bits: u32,
    /// Whether the step trains, or keeps the value that calibration gave it.
    #[serde(default = "yes")]
    pub retrain: bool,
    /// One step per output channel of a weight, instead of one per tensor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_channel: bool,
}

impl LsqConfig {
    /// Widths of the integers.
    pub const BITS: RangeInclusive<u32> = 2..=16;

    /// A step that trains.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            retrain: true,
            per_channel: false,
        }
    }
}

/// The module of [`LsqConfig`].
#[derive(Module, Debug)]
pub struct Lsq {
    /// The step, `[1]` or `[channels]`.
    pub step: Param<Tensor<1>>,
    /// 1.0 for signed integers, 0.0 for unsigned, `[1]`. Set by calibration, not trained.
    pub signed: Param<Tensor<1>>,
    /// Bits of the integers, sign included.
    pub bits: u32,
    axis: usize,
    /// On or off.
    pub switch: Switch,
}

/// The name of the field, and of the parameter in a record.
const STEP: &str = "step";
/// The name of the field, and of the parameter in a record.
const SIGNED: &str = "signed";

/// The greatest integer.
fn greatest(bits: u32, signed: bool) -> f32 {
    ((bits - u32::from(signed)) as f32).exp2() - 1.0
}

impl Method for Lsq {
    type Config = LsqConfig;

    const NAME: &'static str = "lsq";
    const BITS: Option<RangeInclusive<u32>> = Some(LsqConfig::BITS);
    /// The step trains as the weights do, but does not decay.
    const LEARNED: &'static [Learned] = &[
        Learned::trained(STEP, Role::Step, Group::Weights),
        Learned::set(SIGNED, Role::Signedness),
    ];

    fn bits(config: &LsqConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut LsqConfig, bits: u32) {
        config.bits = bits;
    }

    fn set_trained(config: &mut LsqConfig, trained: bool) {
        config.retrain = trained;
    }

    fn check(config: &LsqConfig, slot: &str) -> Result<(), Error> {
        if config.per_channel && slot != "weight" {
            return Err(Error::config(slot, "per_channel is for a weight"));
        }
        Ok(())
    }

    /// Until it is calibrated, the step is 1 and the integers are signed.
    fn init(config: &LsqConfig, channels: Option<Channels>, device: &Device) -> Self {
        let channels = channels.filter(|_| config.per_channel);
        let (axis, count) = channels.map_or((0, 1), |c| (c.axis, c.count));
        let ones = |count: usize| Param::from_tensor(Tensor::ones([count], device));
        Self {
            step: ones(count).set_require_grad(config.retrain),
            signed: ones(1).set_require_grad(false),
            bits: config.bits,
            axis,
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, kind: TensorKind) -> Quantization {
        let signed = self.signed.val();
        let is_signed = signed.to_data().iter::<f32>().next() != Some(0.0);
        let numbers = kind.numbers(x) / self.step.dims()[0];
        Quantization::LearnedStep {
            step: self.step.val(),
            signed,
            bits: self.bits,
            gradient_scale: 1.0 / (numbers as f32 * greatest(self.bits, is_signed)).sqrt(),
            axis: self.axis,
        }
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            id: self.step.id,
            bits: self.bits,
            init: ThresholdInit::Max,
            thresholds: self.step.dims()[0],
            axis: self.axis,
        })
    }

    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        let greatest = greatest(calibration.bits, calibration.signed);
        let step = |mean: f64| match 2.0 * mean as f32 / greatest.sqrt() {
            // A tensor of zeros is zero under any step.
            step if step > 0.0 => step,
            _ => 1.0,
        };
        let means = calibration.histograms.iter().map(|h| h.mean_magnitude());
        match field {
            STEP => Some(means.map(step).collect()),
            SIGNED => Some(vec![f32::from(u8::from(calibration.signed))]),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::calibrate;
    use crate::config::QConfig;
    use crate::nn::{Linear, LinearConfig};
    use crate::quantizers::{Quantizer, QuantizerConfig};

    fn linear(bits: u32, device: &Device) -> Linear {
        let lsq = || QuantizerConfig::Lsq(LsqConfig::new(bits));
        let config = QConfig::new().with("weight", lsq()).with("input", lsq());
        let mut linear = LinearConfig::new(2, 2)
            .with_bias(false)
            .with_quantization(config)
            .init(device);
        let weight = Tensor::from_floats([[0.5, -0.25], [1.0, -0.75]], device);
        linear.weight = linear.weight.map(|_| weight.require_grad());
        linear
    }

    fn step_and_sign(linear: &Linear, slot: &str) -> (f32, f32) {
        let Some(Quantizer::Lsq(lsq)) = linear.quantizers.get(slot) else {
            panic!("no such slot");
        };
        let read = |t: &Param<Tensor<1>>| t.val().into_data().iter::<f32>().next().unwrap();
        (read(&lsq.step), read(&lsq.signed))
    }

    /// Weights of mean magnitude 0.625 with Q_p = 2^3 - 1 = 7: 2 * 0.625 / sqrt(7). Inputs 1, 2, 3,
    /// 0, unsigned, of mean 1.5 with Q_p = 15: 3 / sqrt(15).
    #[test]
    fn calibration_is_the_papers_start() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 0.0]], &device);
        let (linear, _) = calibrate(
            linear(4, &device),
            |_| true,
            |linear| {
                linear.forward(x.clone());
            },
        )
        .unwrap();
        let (step, signed) = step_and_sign(&linear, "weight");
        assert!((step - 1.25 / 7f32.sqrt()).abs() < 1e-6 && signed == 1.0);
        let (step, signed) = step_and_sign(&linear, "input");
        assert!((step - 3.0 / 15f32.sqrt()).abs() < 1e-6 && signed == 0.0);
    }

    /// Weights of one sign may have to change it: their integers are signed.
    #[test]
    fn positive_weights_have_signed_integers() {
        let device = Device::flex().autodiff();
        let mut positive = linear(4, &device);
        let weight = Tensor::from_floats([[0.5, 0.25], [1.0, 0.75]], &device);
        positive.weight = positive.weight.map(|_| weight.require_grad());
        let x = Tensor::<2>::ones([1, 2], &device);
        let (positive, _) = calibrate(
            positive,
            |_| true,
            |linear| {
                linear.forward(x.clone());
            },
        )
        .unwrap();
        assert_eq!(step_and_sign(&positive, "weight").1, 1.0);
        assert_eq!(step_and_sign(&positive, "input").1, 0.0);
    }

    /// The columns of the weight are the channels: 0.5 and 1 of mean 0.75, 0.25 and 0.75 of mean 0.5;
    /// Q_p = 7. A step's gradient counts the two numbers of its channel.
    #[test]
    fn each_channel_has_a_step() {
        let device = Device::flex().autodiff();
        let config = LsqConfig {
            per_channel: true,
            ..LsqConfig::new(4)
        };
        let config = QConfig::new().with("weight", QuantizerConfig::Lsq(config));
        let layer = LinearConfig::new(2, 2).with_quantization(config);
        let mut linear = layer.with_bias(false).init(&device);
        let weight = Tensor::from_floats([[0.5, -0.25], [1.0, -0.75]], &device);
        linear.weight = linear.weight.map(|_| weight.require_grad());
        let x = Tensor::<2>::ones([1, 2], &device);
        let forward = |linear: &Linear| {
            linear.forward(x.clone());
        };
        let (linear, _) = calibrate(linear, |_| true, forward).unwrap();
        let Some(Quantizer::Lsq(lsq)) = linear.quantizers.get("weight") else {
            panic!("no such slot");
        };
        let steps: Vec<f32> = lsq.step.val().into_data().iter::<f32>().collect();
        for (step, mean) in steps.iter().zip([0.75, 0.5]) {
            assert!((step - 2.0 * mean / 7f32.sqrt()).abs() < 1e-6, "{steps:?}");
        }
        let quantization = lsq.quantization(&linear.weight.val(), TensorKind::Parameter);
        let Quantization::LearnedStep {
            gradient_scale,
            axis,
            ..
        } = quantization
        else {
            panic!("another quantization");
        };
        assert_eq!((gradient_scale, axis), (1.0 / 14f32.sqrt(), 1));
    }

    /// Signed 4 bits with a step of 1, and the output gradient 1 everywhere. The weights 0.5, -0.25,
    /// 1, -0.75 are, rounded, 0, 0, 1, -1; round(v) - v is -0.5, 0.25, 0, -0.25. Each weight's
    /// gradient is the sum of its input over the batch: 1 + 3 = 4 in the first row, 2 + 0 = 2 in the
    /// second. Their step's is 4 (-0.5 + 0.25) + 2 (0 - 0.25) = -1.5 over sqrt(4 * 7).
    #[test]
    fn the_gradient_of_a_step_is_scaled_by_the_numbers_of_the_tensor() {
        let device = Device::flex().autodiff();
        let linear = linear(4, &device);
        let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 0.0]], &device);
        let grads = linear.forward(x).sum().backward();
        let Some(Quantizer::Lsq(lsq)) = linear.quantizers.get("weight") else {
            panic!("no such slot");
        };
        let step = lsq.step.val().grad(&grads).unwrap();
        let step: f32 = step.into_data().iter::<f32>().next().unwrap();
        assert!((step - -1.5 / 28f32.sqrt()).abs() < 1e-6, "{step}");
    }
}
