//! Range-based linear quantization: affine integers over a range of values.

use std::ops::RangeInclusive;

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor};
use lowbit_formats::{FixedPoint, Format, Rounding, kernel};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{ClampedGradient, Quantization, count_rows, fake_quantize, min_max};
use crate::quantizers::methods::format::Draws;
use crate::quantizers::methods::grouped::Groups;
use crate::quantizers::methods::method::{
    Calibration, Channels, Learned, Method, Role, TensorKind,
};
use crate::quantizers::methods::range_source::RangeSource;
use crate::quantizers::watch::{Observed, Switch};

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
/// A range of zeros has the scale 1. The gradient passes where the integer is within its limits, or
/// everywhere.
///
/// There is one range for a tensor, one for each output channel of a weight, or one for each run of so
/// many numbers: along the input's dimension of a weight, along the last dimension of another tensor;
/// the last run of a line may be shorter.
///
/// Rounding is to the nearest integer, or as [`Rounding`] says, stochastic rounding with other numbers
/// in each step; then the gradient is zero, where it is to be, outside the ends of the integers.
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
    /// One range for so many numbers, 1 or more, instead of one per tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// How a number between two integers is rounded.
    #[serde(default, skip_serializing_if = "is_nearest")]
    pub rounding: Rounding,
    /// The gradient where the integer is not within its limits.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clamped: ClampedGradient,
}

fn is_nearest(rounding: &Rounding) -> bool {
    *rounding == Rounding::default()
}

fn is_zero(clamped: &ClampedGradient) -> bool {
    *clamped == ClampedGradient::Zero
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
            group: None,
            rounding: Rounding::default(),
            clamped: ClampedGradient::Zero,
        }
    }

    /// Whether nothing of it but the bits is in the way of a scale that several tensors share.
    fn shares(&self) -> bool {
        let one_range = !self.per_channel && self.group.is_none();
        let scheme = self.scheme == Scheme::Symmetric;
        one_range && scheme && self.range == RangeSource::Dynamic
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

    /// The integers as a format.
    fn integers(self, bits: u32) -> Format {
        let width = u8::try_from(bits).expect("bits are 16 at most");
        let signed = FixedPoint::new(width, 0).expect("so many bits are a format");
        Format::Fixed(match self {
            Self::Asymmetric => signed.unsigned(),
            Self::Symmetric => signed.symmetric().expect("two bits at least"),
            Self::SymmetricFull => signed,
        })
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
    /// What was seen: the lower ends, the upper ends, and of how many batches they are, `[3]` or
    /// `[2 channels + 1]`.
    pub running: Option<RunningState<Tensor<1>>>,
    #[module(skip)]
    config: RangeLinearConfig,
    axis: usize,
    /// The dimension along which runs lie; none for the last.
    #[module(skip)]
    group_axis: Option<usize>,
    #[module(skip)]
    draws: Option<Draws>,
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
        match self.config.range {
            RangeSource::Fixed { min, max } => vec![(min, max)],
            range if range.is_observed() => self.followed(x),
            _ => self.seen(x),
        }
    }

    /// The smallest and the largest number, of the tensor or of each channel.
    fn seen<const D: usize>(&self, x: &Tensor<D>) -> Vec<(f32, f32)> {
        match self.config.per_channel {
            true => count_rows(x, Some(self.axis), kernel::min_max),
            false => vec![min_max(x)],
        }
    }

    /// The ranges that were seen, which in training take note of `x` first.
    fn followed<const D: usize>(&self, x: &Tensor<D>) -> Vec<(f32, f32)> {
        let running = self.running.as_ref().expect("what is seen has a state");
        let mut state: Vec<f32> = running.value_sync().into_data().iter::<f32>().collect();
        let count = state.pop().unwrap_or_default();
        let (min, max) = state.split_at(state.len() / 2);
        let before = min.iter().copied().zip(max.iter().copied());
        let trains = x.device().is_autodiff();
        if !trains && count > 0.0 {
            return before.collect();
        }
        let range = self.config.range;
        let follow = |((min, max), seen): ((f32, f32), (f32, f32))| match count > 0.0 {
            true => (
                range.follow(min, seen.0, f32::min),
                range.follow(max, seen.1, f32::max),
            ),
            false => seen,
        };
        let ranges: Vec<(f32, f32)> = before.zip(self.seen(x)).map(follow).collect();
        let is_finite = |&(min, max): &(f32, f32)| min.is_finite() && max.is_finite();
        if trains && ranges.iter().all(is_finite) {
            let (mut state, max): (Vec<f32>, Vec<f32>) = ranges.iter().copied().unzip();
            state.extend(max);
            // A count beyond 2^24 says no more than that there was one.
            state.push((count + 1.0).min(16_777_216.0));
            let device = running.value_sync().device();
            running.update(Tensor::from_floats(&state[..], &device));
        }
        ranges
    }

    /// Scales and zero points for a tensor.
    fn parameters<const D: usize>(&self, x: &Tensor<D>) -> (Vec<f32>, Vec<f32>) {
        if let RangeSource::Scale { scale, zero_point } = self.config.range {
            return (vec![scale], vec![zero_point as f32]);
        }
        let RangeLinearConfig { bits, scheme, .. } = self.config;
        let ranges = self.ranges(x).into_iter();
        ranges.map(|range| scheme.parameters(range, bits)).unzip()
    }

    /// To the nearest integers of these scales and zero points, one or one per index of `axis`.
    fn to_nearest(
        &self,
        (scales, zero_points): (Vec<f32>, Vec<f32>),
        axis: usize,
        device: &Device,
    ) -> Quantization {
        Quantization::Affine {
            scale: Tensor::from_floats(&scales[..], device),
            zero_point: Tensor::from_floats(&zero_points[..], device),
            limits: self.config.scheme.limits(self.config.bits),
            clamped: self.config.clamped,
            axis,
        }
    }

    /// The tensor with these scales and zero points, one or one per index of `axis`.
    fn rounded<const D: usize>(
        &self,
        x: Tensor<D>,
        parameters: (Vec<f32>, Vec<f32>),
        axis: usize,
    ) -> Tensor<D> {
        let device = x.device();
        let Some(draws) = &self.draws else {
            return self.to_nearest(parameters, axis, &device).apply(x);
        };
        let along = |numbers: &[f32]| {
            let mut shape = [1; D];
            shape[axis] = numbers.len();
            Tensor::<1>::from_floats(numbers, &device).reshape(shape)
        };
        let (scale, zero_point) = (along(&parameters.0), along(&parameters.1));
        let integers = x / scale.clone() + zero_point.clone();
        let format = self.config.scheme.integers(self.config.bits);
        let rounding = draws.rounding(self.config.rounding);
        let integers = fake_quantize(integers, &format, rounding, self.config.clamped);
        (integers - zero_point) * scale
    }
}

impl Method for RangeLinear {
    type Config = RangeLinearConfig;

    const NAME: &'static str = "range-linear";
    const BITS: Option<RangeInclusive<u32>> = Some(RangeLinearConfig::BITS);
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
        let refused = |message: &str| Err(Error::config(slot, message));
        if config.per_channel && slot != "weight" {
            return refused("per_channel is for a weight");
        }
        let is_given = !matches!(config.range, RangeSource::Dynamic);
        match config.group {
            Some(0) => return refused("group is 0, expected at least 1"),
            Some(_) if config.per_channel => return refused("group stands beside per_channel"),
            Some(_) if is_given => return refused("group is for a dynamic range"),
            _ => {}
        }
        if let RangeSource::Scale { zero_point, .. } = config.range {
            let (least, greatest) = match config.scheme {
                Scheme::Asymmetric => config.scheme.limits(config.bits),
                _ => (0, 0),
            };
            if !(least..=greatest).contains(&zero_point) {
                let message =
                    format!("the zero point is {zero_point}, expected {least} to {greatest}");
                return Err(Error::config(slot, message));
            }
        }
        if config.clamped == ClampedGradient::ZeroRounded {
            return refused("clamped: zero-rounded is of fixed point");
        }
        let rounding = config.rounding.validate();
        rounding.map_err(|error| Error::config(slot, format!("rounding: {error}")))?;
        if config.bits == 1 && config.scheme == Scheme::Symmetric {
            let message = "bits is 1, expected 2 to 16 (range-linear, symmetric)";
            return Err(Error::config(slot, message));
        }
        Ok(())
    }

    /// Until it is calibrated, the range is from -1 to 1.
    fn init(config: &RangeLinearConfig, channels: Option<Channels>, device: &Device) -> Self {
        let group_axis = channels.map(|channels| usize::from(channels.axis == 0));
        let channels = channels.filter(|_| config.per_channel);
        let (axis, count) = channels.map_or((0, 1), |c| (c.axis, c.count));
        let calibrated = matches!(config.range, RangeSource::Calibrated(_));
        let end = |value: f32| {
            let end = Param::from_tensor(Tensor::full([count], value, device));
            calibrated.then(|| end.set_require_grad(false))
        };
        let observed = config.range.is_observed();
        let state = || RunningState::new(Tensor::zeros([2 * count + 1], device));
        Self {
            min: end(-1.0),
            max: end(1.0),
            running: observed.then(state),
            config: RangeLinearConfig {
                per_channel: channels.is_some(),
                ..config.clone()
            },
            axis,
            group_axis,
            // Only what draws counts among what does.
            draws: (!is_nearest(&config.rounding)).then(Draws::new),
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        self.to_nearest(self.parameters(x), self.axis, &x.device())
    }

    fn own_scale<const D: usize>(&self, x: &Tensor<D>) -> Option<f32> {
        let Self { config, .. } = self;
        // Zeros are on any grid, and have nothing to say of a scale.
        let range = config.shares().then(|| min_max(x));
        let range = range.filter(|range| *range != (0.0, 0.0))?;
        Some(config.scheme.parameters(range, config.bits).0)
    }

    fn composed<const D: usize>(&self, x: &Tensor<D>, shared: Option<f32>) -> Option<Tensor<D>> {
        if let Some(scale) = shared {
            return Some(self.rounded(x.clone(), (vec![scale], vec![0.0]), 0));
        }
        if let Some(length) = self.config.group {
            let axis = self.group_axis.map_or(D - 1, |axis| axis.min(D - 1));
            let groups = Groups::new(x.dims(), axis, length);
            let runs = groups.split(x.clone());
            let RangeLinearConfig { bits, scheme, .. } = self.config;
            let ranges = count_rows(&runs, Some(0), kernel::min_max).into_iter();
            let parameters = ranges.map(|range| scheme.parameters(range, bits)).unzip();
            return Some(groups.join(self.rounded(runs, parameters, 0)));
        }
        let draws = self.draws.is_some();
        draws.then(|| self.rounded(x.clone(), self.parameters(x), self.axis))
    }

    fn shares(config: &RangeLinearConfig) -> bool {
        config.shares()
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
        assert_eq!(quantizer.followed(&batch([4.0, 5.0], &plain)), [(4.0, 5.0)]);
        assert_eq!(
            quantizer.followed(&batch([1.0, 3.0], &device)),
            [(1.0, 3.0)]
        );
        assert_eq!(
            quantizer.followed(&batch([2.0, 7.0], &device)),
            [(1.5, 5.0)]
        );
        assert_eq!(
            quantizer.followed(&batch([9.0, -9.0], &plain)),
            [(1.5, 5.0)]
        );
    }
}
