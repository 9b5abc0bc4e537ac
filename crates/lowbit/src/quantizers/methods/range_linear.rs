//! Range-based linear quantization: affine integers over a range of values.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{Quantization, count_rows, min_max};
use crate::quantizers::methods::method::{
    Calibration, Channels, Learned, Method, Role, TensorKind,
};
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::{Observed, Switch};
use lowbit_formats::kernel;

/// Integers over a range of values (Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342;
/// Distiller's range-based linear quantization); see [`affine`](crate::ops::affine()).
///
/// With the ends `min` and `max` of the range, and `k` bits:
///
/// | scheme | integers | scale | zero point |
/// |---|---|---|---|
/// | `asymmetric` | `0..2^k - 1` | `(max - min) / (2^k - 1)`, zero included in the range | `-round(min / scale)` |
/// | `symmetric` | `-(2^(k-1) - 1)..2^(k-1) - 1` | `max(-min, max) / (2^(k-1) - 1)` | 0 |
/// | `symmetric-full` | `-2^(k-1)..2^(k-1) - 1` | `2 max(-min, max) / (2^k - 1)` | 0 |
///
/// A range of zeros has the scale 1. The gradient passes where the integer is within its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeLinearConfig {
    /// Bits of the integers, 1 to 16.
    pub bits: u32,
    /// Which integers stand for the range.
    #[serde(default)]
    pub scheme: Scheme,
    /// Where the range comes from.
    #[serde(default)]
    pub range: RangeSource,
    /// One range per output channel of a weight, instead of one per tensor.
    #[serde(default)]
    pub per_channel: bool,
}

/// Which integers stand for a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Unsigned, with a zero point.
    #[default]
    Asymmetric,
    /// As many below zero as above.
    Symmetric,
    /// One more below zero, so that all codes are used.
    SymmetricFull,
}

/// Where a range comes from. The text forms are `dynamic`, `moving-average`, `moving-average(C)` and
/// those of [`ThresholdInit`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RangeSource {
    /// The smallest and the largest value of each tensor that comes.
    #[default]
    Dynamic,
    /// Their moving averages in training, `min += c (min of the batch - min)`, of which the first batch
    /// is the start (PyTorch's `MovingAverageMinMaxObserver`). In evaluation they stay.
    MovingAverage {
        /// `c`, in millionths, 1 to 1,000,000.
        millionths: u32,
    },
    /// What calibration finds.
    Calibrated(ThresholdInit),
}

impl RangeSource {
    /// A moving average with PyTorch's constant, 0.01.
    pub const MOVING_AVERAGE: Self = Self::MovingAverage { millionths: 10_000 };
}

impl fmt::Display for RangeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Dynamic => f.write_str("dynamic"),
            average if average == Self::MOVING_AVERAGE => f.write_str("moving-average"),
            Self::MovingAverage { millionths } => {
                write!(f, "moving-average({})", f64::from(millionths) / 1e6)
            }
            Self::Calibrated(init) => write!(f, "{init}"),
        }
    }
}

impl FromStr for RangeSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "dynamic" => return Ok(Self::Dynamic),
            "moving-average" => return Ok(Self::MOVING_AVERAGE),
            _ => {}
        }
        let constant = text.strip_prefix("moving-average(");
        if let Some(constant) = constant.and_then(|rest| rest.strip_suffix(')')) {
            let millionths = constant.parse::<f64>().map_or(0.0, |c| c * 1e6);
            if !(1.0..=1e6).contains(&millionths) {
                return Err(Error::config(text, "the constant is 0.000001 to 1"));
            }
            return Ok(Self::MovingAverage {
                millionths: millionths.round() as u32,
            });
        }
        let init = text.parse().map_err(|_| Error::Unknown {
            kind: "range",
            text: text.into(),
            expected: FORMS,
        })?;
        Ok(Self::Calibrated(init))
    }
}

const FORMS: &str = "dynamic, moving-average, moving-average(C), or a calibration such as max, \
                     mean-max, sd(N), percentile(PERCENT), gauss or laplace";

impl TryFrom<String> for RangeSource {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RangeSource> for String {
    fn from(range: RangeSource) -> Self {
        range.to_string()
    }
}

impl RangeLinearConfig {
    /// Widths of the integers.
    pub const BITS: RangeInclusive<u32> = 1..=16;

    /// Asymmetric, over the range of each tensor that comes.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            scheme: Scheme::Asymmetric,
            range: RangeSource::Dynamic,
            per_channel: false,
        }
    }

    /// The same over another range.
    pub fn with_range(self, range: RangeSource) -> Self {
        Self { range, ..self }
    }

    /// The same with other integers.
    pub fn with_scheme(self, scheme: Scheme) -> Self {
        Self { scheme, ..self }
    }
}

impl Scheme {
    /// The least and the greatest integer.
    pub fn limits(self, bits: u32) -> (i32, i32) {
        let half = 1 << (bits - 1);
        match self {
            Self::Asymmetric => (0, 2 * half - 1),
            Self::Symmetric => (1 - half, half - 1),
            Self::SymmetricFull => (-half, half - 1),
        }
    }

    /// Scale and zero point for a range.
    pub fn parameters(self, (min, max): (f32, f32), bits: u32) -> (f32, f32) {
        let (min, max) = (f64::from(min.min(0.0)), f64::from(max.max(0.0)));
        let steps = f64::from(bits).exp2() - 1.0;
        let largest = max.max(-min);
        let scale = match self {
            Self::Asymmetric => (max - min) / steps,
            Self::Symmetric => largest / ((steps - 1.0) / 2.0),
            Self::SymmetricFull => largest / (steps / 2.0),
        };
        if scale <= 0.0 || !scale.is_finite() {
            return (1.0, 0.0);
        }
        // In f32, as what is rounded with it.
        let scale = (scale as f32).max(f32::MIN_POSITIVE);
        match self {
            Self::Asymmetric => (scale, -(min / f64::from(scale)).round_ties_even() as f32),
            _ => (scale, 0.0),
        }
    }
}

/// The module of [`RangeLinearConfig`].
#[derive(Module, Debug)]
pub struct RangeLinear {
    /// The lower ends that calibration found, `[1]` or `[channels]`; none where the range comes from
    /// elsewhere.
    pub min: Option<Param<Tensor<1>>>,
    /// The upper ends.
    pub max: Option<Param<Tensor<1>>>,
    /// The averages of both ends, and how many batches they are of, `[3]`.
    pub running: Option<RunningState<Tensor<1>>>,
    #[module(skip)]
    config: RangeLinearConfig,
    axis: usize,
    /// On or off.
    pub switch: Switch,
}

/// The name of the field, and of the parameter in a record.
const MIN: &str = "min";
/// The name of the field, and of the parameter in a record.
const MAX: &str = "max";

impl RangeLinear {
    /// The ranges for a tensor, one or one for each channel.
    fn ranges<const D: usize>(&self, x: &Tensor<D>) -> Vec<(f32, f32)> {
        if let (Some(min), Some(max)) = (&self.min, &self.max) {
            let read = |end: &Param<Tensor<1>>| end.val().into_data().iter::<f32>().collect();
            let (min, max): (Vec<f32>, Vec<f32>) = (read(min), read(max));
            return min.into_iter().zip(max).collect();
        }
        if self.config.per_channel {
            return count_rows(x, Some(self.axis), kernel::min_max);
        }
        let seen = |x| match self.config.range {
            RangeSource::MovingAverage { millionths } => {
                self.averaged(x, f64::from(millionths) / 1e6)
            }
            _ => min_max(x),
        };
        vec![seen(x)]
    }

    /// The averages, which in training take note of `x` first.
    fn averaged<const D: usize>(&self, x: &Tensor<D>, constant: f64) -> (f32, f32) {
        let running = self.running.as_ref().expect("a moving average has a state");
        let state: Vec<f32> = running.value_sync().into_data().iter::<f32>().collect();
        let (min, max, count) = (state[0], state[1], state[2]);
        let trains = x.device().is_autodiff();
        if !trains && count > 0.0 {
            return (min, max);
        }
        let (batch_min, batch_max) = min_max(x);
        let follow = |end: f32, seen: f32| match count > 0.0 {
            true => (f64::from(end) + constant * (f64::from(seen) - f64::from(end))) as f32,
            false => seen,
        };
        let (min, max) = (follow(min, batch_min), follow(max, batch_max));
        if trains && min.is_finite() && max.is_finite() {
            // A count beyond 2^24 says no more than that there was one.
            let state = [min, max, (count + 1.0).min(16_777_216.0)];
            let device = running.value_sync().device();
            running.update(Tensor::from_floats(state, &device));
        }
        (min, max)
    }
}

impl Method for RangeLinear {
    type Config = RangeLinearConfig;

    const NAME: &'static str = "range-linear";
    const BITS: Option<RangeInclusive<u32>> = Some(RangeLinearConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["input", "weight", "output"]);
    const LEARNED: &'static [Learned] =
        &[Learned::set(MIN, Role::End), Learned::set(MAX, Role::End)];

    fn learned(config: &RangeLinearConfig) -> &'static [Learned] {
        match config.range {
            RangeSource::Calibrated(_) => Self::LEARNED,
            _ => &[],
        }
    }

    fn bits(config: &RangeLinearConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut RangeLinearConfig, bits: u32) {
        config.bits = bits;
    }

    fn check(config: &RangeLinearConfig, slot: &str) -> Result<(), Error> {
        if config.per_channel && slot != "weight" {
            return Err(Error::config(slot, "per_channel is for a weight"));
        }
        if config.per_channel && matches!(config.range, RangeSource::MovingAverage { .. }) {
            let message = "a moving average is of the whole tensor, not per_channel";
            return Err(Error::config(slot, message));
        }
        if config.bits == 1 && config.scheme == Scheme::Symmetric {
            let message = "bits is 1, expected 2 to 16 (range-linear, symmetric)";
            return Err(Error::config(slot, message));
        }
        Ok(())
    }

    /// Until it is calibrated, the range is from -1 to 1.
    fn init(config: &RangeLinearConfig, channels: Option<Channels>, device: &Device) -> Self {
        let channels = channels.filter(|_| config.per_channel);
        let (axis, count) = channels.map_or((0, 1), |c| (c.axis, c.count));
        let calibrated = matches!(config.range, RangeSource::Calibrated(_));
        let end = |value: f32| {
            let end = Param::from_tensor(Tensor::full([count], value, device));
            calibrated.then(|| end.set_require_grad(false))
        };
        let averaged = matches!(config.range, RangeSource::MovingAverage { .. });
        Self {
            min: end(-1.0),
            max: end(1.0),
            running: averaged.then(|| RunningState::new(Tensor::zeros([3], device))),
            config: RangeLinearConfig {
                per_channel: channels.is_some(),
                ..config.clone()
            },
            axis,
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        let RangeLinearConfig { bits, scheme, .. } = self.config;
        let ranges = self.ranges(x).into_iter();
        let (scales, zero_points): (Vec<f32>, Vec<f32>) =
            ranges.map(|range| scheme.parameters(range, bits)).unzip();
        Quantization::Affine {
            scale: Tensor::from_floats(&scales[..], &x.device()),
            zero_point: Tensor::from_floats(&zero_points[..], &x.device()),
            limits: scheme.limits(bits),
            axis: self.axis,
        }
    }

    fn observed(&self) -> Option<Observed> {
        let RangeSource::Calibrated(init) = self.config.range else {
            return None;
        };
        let min = self.min.as_ref()?;
        Some(Observed {
            id: min.id,
            bits: self.config.bits,
            init,
            thresholds: min.dims()[0],
            axis: self.axis,
        })
    }

    fn calibrated(field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        let ranges = calibration.ranges();
        match field {
            MIN => Some(ranges.map(|(min, _)| min).collect()),
            MAX => Some(ranges.map(|(_, max)| max).collect()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_as_they_are_written() {
        for text in [
            "dynamic",
            "moving-average",
            "moving-average(0.1)",
            "max",
            "sd(2)",
            "laplace",
        ] {
            assert_eq!(text.parse::<RangeSource>().unwrap().to_string(), text);
        }
        for text in ["", "moving-average(0)", "moving-average()", "min"] {
            assert!(text.parse::<RangeSource>().is_err(), "{text}");
        }
    }

    /// From -1 to 2 in 2 bits the step is 1 and the zero point 1; zero is included in a range from 1
    /// to 3, and one from 0 to 0 has the scale 1.
    #[test]
    fn scales_by_hand() {
        assert_eq!(Scheme::Asymmetric.parameters((-1.0, 2.0), 2), (1.0, 1.0));
        assert_eq!(Scheme::Asymmetric.parameters((1.0, 3.0), 2), (1.0, 0.0));
        assert_eq!(Scheme::Asymmetric.parameters((0.0, 0.0), 2), (1.0, 0.0));
        assert_eq!(Scheme::Symmetric.parameters((-7.0, 3.0), 4), (1.0, 0.0));
        assert_eq!(Scheme::SymmetricFull.parameters((-7.5, 3.0), 4), (1.0, 0.0));
    }

    /// 1 and 3, then 2 and 7 with a constant of 1/2: 1.5 and 5. What is seen without gradients is not
    /// taken note of.
    #[test]
    fn a_moving_average_stops_in_evaluation() {
        let device = Device::flex().autodiff();
        let config = RangeLinearConfig::new(8).with_range("moving-average(0.5)".parse().unwrap());
        let quantizer = RangeLinear::init(&config, None, &device);
        let batch = |values: [f32; 2], device: &Device| Tensor::<1>::from_floats(values, device);
        let plain = Device::flex();
        assert_eq!(
            quantizer.averaged(&batch([4.0, 5.0], &plain), 0.5),
            (4.0, 5.0)
        );
        assert_eq!(
            quantizer.averaged(&batch([1.0, 3.0], &device), 0.5),
            (1.0, 3.0)
        );
        assert_eq!(
            quantizer.averaged(&batch([2.0, 7.0], &device), 0.5),
            (1.5, 5.0)
        );
        assert_eq!(
            quantizer.averaged(&batch([9.0, -9.0], &plain), 0.5),
            (1.5, 5.0)
        );
    }
}
