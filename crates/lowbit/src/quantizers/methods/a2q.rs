//! A2Q and A2Q+: weights whose sums fit an accumulator.

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
use crate::quantizers::watch::{Histogram, Observed, Switch};

/// Accumulator-aware quantization: A2Q+ (Colbert, Pappalardo, Petri-Koenig, Umuroglu, arXiv 2401.10432)
/// and A2Q (arXiv 2308.13504). Of each output channel the weights `v` are
///
/// ```text
/// u = g / s (v - mean v) / sum |v - mean v|,   q = clip(trunc(u), -Q_p, Q_p),   Q_p = 2^(b-1) - 1
/// w = q s,   g = min(n, s L)
/// ```
///
/// with a learned step `s` and a learned norm `n`, so that `sum |q| <= L`, half of it of each sign: the
/// sum of products with any inputs of `N` bits, and every part of it, lies within a signed accumulator
/// of `P` bits:
///
/// - A2Q+: `L = (2^P - 2) / (2^N - 1)`, for inputs with and without a sign;
/// - A2Q, without the mean: `L = (2^(P-1) - 1) / (2^N - 1)` for inputs without a sign,
///   `(2^(P-1) - 1) / 2^(N-1)` with one.
///
/// `L` is made smaller by one part in 4,096, which is more than what sums in `f32` are off. A bias is
/// added beside; the proof that [`lower`](crate::integer::lower) makes possible counts it.
///
/// On the way back truncation passes the gradient, and zero is passed where `u` is clipped; the step's is
/// scaled by `1 / sqrt(N Q_p)` of the channel, as LSQ's. A norm above `s L` has the gradient that it would
/// have below. Step and norm themselves are learned, by their magnitude, where the papers learn their logarithms and add a
/// penalty; weights are not projected before training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct A2qConfig {
    /// Bits of the integers, sign included, 2 to 8.
    pub bits: u32,
    /// Bits of the accumulator, sign included, 8 to 32.
    #[serde(default = "sixteen")]
    pub accumulator_bits: u32,
    /// Bits of the integers that the weight is multiplied with, 1 to 16.
    #[serde(default = "eight")]
    pub input_bits: u32,
    /// Whether those have a sign; said for A2Q only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub input_signed: bool,
    /// Whether the mean is subtracted: A2Q+.
    #[serde(default = "yes")]
    pub centered: bool,
    /// Whether step and norm train, or keep what calibration gave them.
    #[serde(default = "yes")]
    pub retrain: bool,
}

fn sixteen() -> u32 {
    16
}

fn eight() -> u32 {
    8
}

impl A2qConfig {
    /// Widths of the integers.
    pub const BITS: RangeInclusive<u32> = 2..=8;

    /// Widths of the inputs.
    pub const INPUT_BITS: RangeInclusive<u32> = 1..=16;

    /// A2Q+ for sums of 16 bits of inputs of 8.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            accumulator_bits: sixteen(),
            input_bits: eight(),
            input_signed: false,
            centered: true,
            retrain: true,
        }
    }

    /// For sums of so many bits.
    pub fn with_accumulator_bits(mut self, bits: u32) -> Self {
        self.accumulator_bits = bits;
        self
    }

    /// For inputs of so many bits.
    pub fn with_input_bits(mut self, bits: u32) -> Self {
        self.input_bits = bits;
        self
    }

    /// `L`, what the magnitudes of a channel's integers sum to at most.
    pub fn norm_limit(&self) -> f64 {
        let power = |bits: u32| f64::from(bits).exp2();
        let (sums, inputs) = (self.accumulator_bits, self.input_bits);
        match (self.centered, self.input_signed) {
            (true, _) => (power(sums) - 2.0) / (power(inputs) - 1.0),
            (false, false) => (power(sums - 1) - 1.0) / (power(inputs) - 1.0),
            (false, true) => (power(sums - 1) - 1.0) / power(inputs - 1),
        }
    }

    /// The greatest integer.
    fn greatest(&self) -> f32 {
        ((self.bits - 1) as f32).exp2() - 1.0
    }
}

/// The share of `L` that is used.
const SHARE: f64 = 1.0 - 1.0 / 4096.0;

/// The module of [`A2qConfig`].
#[derive(Module, Debug)]
pub struct A2q {
    /// The step, `[channels]`.
    pub step: Param<Tensor<1>>,
    /// The sum of the magnitudes of the weights, `[channels]`.
    pub norm: Param<Tensor<1>>,
    #[module(skip)]
    config: A2qConfig,
    axis: Option<usize>,
    /// On or off.
    pub switch: Switch,
}

/// The name of the field, and of the parameter in a record.
const STEP: &str = "step";
/// The name of the field, and of the parameter in a record.
const NORM: &str = "norm";

impl A2q {
    /// The dimensions of a channel.
    fn inner<const D: usize>(&self) -> Vec<usize> {
        (0..D).filter(|&d| Some(d) != self.axis).collect()
    }

    /// A number of each channel, beside a tensor.
    fn spread<const D: usize>(&self, of_channels: Tensor<1>) -> Tensor<D> {
        let mut dims = [1; D];
        if let Some(axis) = self.axis {
            dims[axis] = of_channels.dims()[0];
        }
        of_channels.reshape(dims)
    }

    /// The rounding to multiples of the step, which the weights are by then.
    fn to_steps(&self) -> Quantization {
        let step = self.step.val().detach().abs();
        Quantization::LearnedStep {
            signed: Tensor::ones([1], &step.device()),
            step,
            // One bit more, so that the ends are not beyond the end.
            bits: self.config.bits + 1,
            gradient_scale: 1.0,
            axis: self.axis.unwrap_or(0),
        }
    }
}

/// The number itself, whose gradient is multiplied.
fn scaled_gradient(x: Tensor<1>, factor: f64) -> Tensor<1> {
    let value = x.clone().detach();
    (x - value.clone()) * factor + value
}

impl Method for A2q {
    type Config = A2qConfig;

    const NAME: &'static str = "a2q";
    const BITS: Option<RangeInclusive<u32>> = Some(A2qConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);
    const LEARNED: &'static [Learned] = &[
        Learned::trained(STEP, Role::Step, Group::Weights),
        Learned::trained(NORM, Role::Norm, Group::Weights),
    ];
    const TRANSFORMS: bool = true;

    fn bits(config: &A2qConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut A2qConfig, bits: u32) {
        config.bits = bits;
    }

    fn set_trained(config: &mut A2qConfig, trained: bool) {
        config.retrain = trained;
    }

    fn check(config: &A2qConfig, slot: &str) -> Result<(), Error> {
        let ranges = [
            ("accumulator_bits", config.accumulator_bits, 8..=32),
            ("input_bits", config.input_bits, A2qConfig::INPUT_BITS),
        ];
        for (field, bits, range) in ranges {
            if !range.contains(&bits) {
                let (first, last) = (range.start(), range.end());
                let message = format!("{field} is {bits}, expected {first} to {last}");
                return Err(Error::config(slot, message));
            }
        }
        let limit = config.norm_limit() * SHARE;
        if limit < 2.0 {
            let (sums, inputs) = (config.accumulator_bits, config.input_bits);
            let message = format!(
                "accumulator_bits is {sums}, which holds no weight beside inputs of {inputs} bits"
            );
            return Err(Error::config(slot, message));
        }
        Ok(())
    }

    /// Until it is calibrated, step and norm are 1.
    fn init(config: &A2qConfig, channels: Option<Channels>, device: &Device) -> Self {
        let count = channels.map_or(1, |channels| channels.count);
        let ones = || {
            let ones = Param::from_tensor(Tensor::ones([count], device));
            ones.set_require_grad(config.retrain)
        };
        Self {
            step: ones(),
            norm: ones(),
            config: config.clone(),
            axis: channels.map(|channels| channels.axis),
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        self.to_steps()
    }

    fn composed<const D: usize>(&self, x: &Tensor<D>, _shared: Option<f32>) -> Option<Tensor<D>> {
        let inner = self.inner::<D>();
        let greatest = self.config.greatest();
        let numbers: usize = inner.iter().map(|&d| x.dims()[d]).product();
        let scale = 1.0 / (numbers as f64 * f64::from(greatest)).sqrt();
        // Training may carry either below zero, where its magnitude counts.
        let step = scaled_gradient(self.step.val(), scale).abs();
        let step = step.clamp_min(f32::MIN_POSITIVE);
        let most = step.clone() * (self.config.norm_limit() * SHARE);
        let norm = self.norm.val().abs();
        let beyond = norm.clone().greater(most.clone()).float();
        let passed = (norm.clone() - norm.clone().detach()) * beyond;
        let norm = norm.min_pair(most) + passed;
        let centered = match self.config.centered {
            true => x.clone() - x.clone().mean_dims(&inner),
            false => x.clone(),
        };
        let magnitudes = centered.clone().abs().sum_dims(&inner);
        let magnitudes = magnitudes.clamp_min(f32::MIN_POSITIVE);
        let in_steps = self.spread::<D>(norm / step.clone());
        let u = (centered / magnitudes * in_steps).clamp(-greatest, greatest);
        let q = u.clone().trunc();
        // Of two numbers less than 1 apart the difference is exact, and so is the sum.
        let q = u.clone() + (q - u).detach();
        Some(self.to_steps().apply(q * self.spread::<D>(step)))
    }

    fn observed(&self) -> Option<Observed> {
        Some(Observed {
            id: self.step.id,
            bits: self.config.bits,
            init: ThresholdInit::Max,
            thresholds: self.step.dims()[0],
            axis: self.axis.unwrap_or(0),
        })
    }

    /// The step from the largest magnitude over `Q_p`, the norm from the weights' own.
    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        let of_each = calibration.histograms.iter();
        let greatest = ((calibration.bits - 1) as f32).exp2() - 1.0;
        match field {
            STEP => Some(
                of_each
                    .map(|values| match values.largest() / greatest {
                        step if step > 0.0 => step,
                        _ => 1.0,
                    })
                    .collect(),
            ),
            NORM => Some(of_each.map(norm).collect()),
            _ => None,
        }
    }
}

/// The sum of the distances from the mean.
fn norm(values: &Histogram) -> f32 {
    let mean = values.mean();
    let zeros = values.zeros() as f64 * mean.abs();
    let bins = values.bins();
    let of_bins = bins.iter().map(|bin| {
        let middle = match bin.is_negative() {
            true => -bin.middle(),
            false => bin.middle(),
        };
        (middle - mean).abs() * bin.count() as f64
    });
    (zeros + of_bins.sum::<f64>()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantizer(config: &A2qConfig, channels: usize, step: f32, norm: f32) -> A2q {
        let device = Device::flex().autodiff();
        let channels = Channels {
            axis: 0,
            count: channels,
        };
        let mut made = A2q::init(config, Some(channels), &device);
        let full = |x: f32| Tensor::full([channels.count], x, &device).require_grad();
        made.step = made.step.map(|_| full(step));
        made.norm = made.norm.map(|_| full(norm));
        made
    }

    fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    /// Mean 1, distances 2, -3, 0, 1 of sum 6. A norm of 12 in steps of 0.5 is 24 steps, below L = 57:
    /// times 4, 8, -12, 0, 4 steps, which `Q_p` of 4 bits cuts at 7.
    #[test]
    fn values_by_hand() {
        let config = A2qConfig::new(4)
            .with_accumulator_bits(10)
            .with_input_bits(4);
        // (2^10 - 2) / 15
        assert!((config.norm_limit() - 68.133_333).abs() < 1e-5);
        let v = Tensor::<2>::from_floats([[3.0, -2.0, 1.0, 2.0]], &Device::flex().autodiff());
        let wide = quantizer(&config, 1, 0.5, 12.0);
        assert_eq!(
            numbers(wide.composed(&v, None).unwrap()),
            [3.5, -3.5, 0.0, 2.0]
        );
        // A norm of 4 in steps of 0.5 is 8: 8/6 of the distances, 2.67, -4, 0, 1.33. What is 4 but for
        // the last bit is cut to 3.
        let narrow = quantizer(&config, 1, 0.5, 4.0);
        let found = numbers(narrow.composed(&v, None).unwrap());
        assert!((found[1] + 2.0).abs() <= 0.5, "{found:?}");
        assert_eq!([found[0], found[2], found[3]], [1.0, 0.0, 0.5]);
        // Without the mean the sum of magnitudes is 8, so that 12 is 3 steps for each: 9, -6, 3, 6.
        let plain = A2qConfig {
            centered: false,
            ..config
        };
        // (2^9 - 1) / 15, and / 8.
        assert!((plain.norm_limit() - 34.066_666).abs() < 1e-5);
        let found = quantizer(&plain, 1, 0.5, 12.0).composed(&v, None).unwrap();
        assert_eq!(numbers(found), [3.5, -3.0, 1.5, 3.0]);
    }

    /// No inputs can leave the accumulator: those that are greatest where the weight is positive and least
    /// where it is negative make the greatest sum, and the other way round.
    #[test]
    fn sums_stay_in_the_accumulator() {
        for (bits, sums, inputs) in [(8, 16, 8), (4, 12, 8), (8, 12, 4), (3, 10, 6), (8, 20, 8)] {
            for (centered, signed) in [(true, false), (true, true), (false, false), (false, true)] {
                let config = A2qConfig {
                    centered,
                    input_signed: signed,
                    ..A2qConfig::new(bits)
                        .with_accumulator_bits(sums)
                        .with_input_bits(inputs)
                };
                assert!(A2q::check(&config, "weight").is_ok());
                let made = quantizer(&config, 3, 0.01, 1e9);
                let v = (0..120).map(|i| (i as f32 * 0.737).sin().powi(5) + 0.1);
                let v = Tensor::<1>::from_floats(&v.collect::<Vec<_>>()[..], &Device::flex());
                let w = made.composed(&v.reshape([3, 40]), None).unwrap();
                let q: Vec<f64> = numbers(w)
                    .iter()
                    .map(|w| (f64::from(*w) / 0.01).round())
                    .collect();
                let [low, high] = match signed {
                    true => [
                        -(2f64.powi(inputs as i32 - 1)),
                        2f64.powi(inputs as i32 - 1) - 1.0,
                    ],
                    false => [0.0, 2f64.powi(inputs as i32) - 1.0],
                };
                let end = 2f64.powi(sums as i32 - 1) - 1.0;
                for channel in q.chunks(40) {
                    let greatest: f64 = channel.iter().map(|q| (q * low).max(q * high)).sum();
                    let least: f64 = channel.iter().map(|q| (q * low).min(q * high)).sum();
                    assert!(
                        greatest <= end && least >= -end,
                        "{config:?} {greatest} {least}"
                    );
                    assert!(
                        channel.iter().any(|&q| q != 0.0) || sums <= 12,
                        "{config:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_sign_of_step_and_norm_does_not_count() {
        let config = A2qConfig::new(4);
        let v = Tensor::<2>::from_floats([[3.0, -2.0, 1.0, 2.0]], &Device::flex().autodiff());
        let of = |step, norm| {
            numbers(
                quantizer(&config, 1, step, norm)
                    .composed(&v, None)
                    .unwrap(),
            )
        };
        assert_eq!(of(-0.5, -5.0), of(0.5, 5.0));
    }

    /// Truncation passes the gradient, so that the weight's is that of `n (v - mean) / sum |v - mean|`
    /// times the incoming one, here by differences of that function in `f64`; the norm's is the sum of
    /// the incoming gradient times the share of each weight, the step's that of `q - u`, over the root of
    /// 4 numbers times `Q_p` of 7.
    #[test]
    fn gradients_are_those_of_the_function_without_truncation() {
        let device = Device::flex().autodiff();
        let config = A2qConfig::new(4).with_accumulator_bits(12);
        let made = quantizer(&config, 1, 0.5, 3.7);
        let v = [0.9, -0.4, 0.3, 0.15];
        let incoming = [1.0, -2.0, 0.5, 3.0];
        let function = |v: [f64; 4]| {
            let mean = v.iter().sum::<f64>() / 4.0;
            let sum: f64 = v.iter().map(|v| (v - mean).abs()).sum();
            v.map(|v| (v - mean) / sum)
        };
        let dot = |w: [f64; 4]| w.iter().zip(incoming).map(|(w, g)| w * g).sum::<f64>();
        let x = Tensor::<2>::from_floats([v.map(|v| v as f32)], &device).require_grad();
        let y = made.composed(&x, None).unwrap();
        let g = Tensor::<2>::from_floats([incoming.map(|g| g as f32)], &device);
        let grads = (y * g).sum().backward();
        let to_x = numbers(x.grad(&grads).unwrap());
        for (i, found) in to_x.iter().enumerate() {
            let moved = |by: f64| {
                let mut v = v;
                v[i] += by;
                3.7 * dot(function(v))
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!(
                (f64::from(*found) - expected).abs() < 1e-4,
                "{i}: {found} {expected}"
            );
        }
        let to_norm = numbers(made.norm.val().grad(&grads).unwrap());
        assert!((f64::from(to_norm[0]) - dot(function(v))).abs() < 1e-5);
        let u = function(v).map(|w| w * 3.7 / 0.5);
        let expected = dot(u.map(|u| u.trunc() - u)) / 28f64.sqrt();
        let to_step = numbers(made.step.val().grad(&grads).unwrap());
        assert!(
            (f64::from(to_step[0]) - expected).abs() < 1e-5,
            "{to_step:?} {expected}"
        );
    }
}
