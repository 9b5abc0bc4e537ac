//! What a quantization method says of itself.

use std::ops::RangeInclusive;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor};
use lowbit_formats::Format;

use crate::Error;
use crate::ops::{GradientQuantization, Quantization};
use crate::quantizers::integers::Integers;
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::{Grids, Histogram, Observed, Switch};

/// The channel dimension of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Which dimension.
    pub axis: usize,
    /// Its length.
    pub count: usize,
}

/// How many products a result of a layer sums, and into how many a number of its input goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fans {
    pub(crate) input: usize,
    pub(crate) output: usize,
}

impl Fans {
    /// Those of what is no weight.
    pub(crate) const NONE: Self = Self {
        input: 1,
        output: 1,
    };

    /// Those of a layer with a weight of these dimensions, of which the channels are the results'.
    pub(crate) fn of(dims: &[usize], channels: Option<Channels>) -> Self {
        let axis = channels.map_or(0, |channels| channels.axis);
        let numbers: usize = dims.iter().product();
        let window: usize = dims.iter().skip(2).product();
        Self {
            input: numbers / dims[axis].max(1),
            output: dims[axis] * window,
        }
    }
}

/// The values that a quantized tensor may have, where the description of its quantizer says them and they
/// are integers times a power of two.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StatedGrid {
    /// Those of a format.
    Of(Format),
    /// Those of a format, made for -1 to 1, times a power of two by the tensor's largest magnitude.
    Shifted(Format),
}

/// What a quantizer's parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The base-2 logarithm of a threshold, beyond which values are clipped.
    Log2Threshold,
    /// 1.0 where the integers are signed, 0.0 where they are not.
    Signedness,
    /// The distance from one value of the grid to the next.
    Step,
    /// The value that the grid's zero stands for.
    Offset,
    /// The value at which the input is clipped.
    Clip,
    /// A value that numbers become, without its sign.
    Value,
    /// The sum of the magnitudes of the weights of a channel.
    Norm,
    /// An end of the range of values.
    End,
    /// Bits before or after the point.
    Bits,
}

impl Role {
    /// What it is called in a message.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log2Threshold => "threshold",
            Self::Signedness => "sign",
            Self::Step => "step",
            Self::Offset => "offset",
            Self::Clip => "clip",
            Self::Value => "value",
            Self::Norm => "norm",
            Self::End => "end",
            Self::Bits => "width",
        }
    }
}

/// What trains a quantizer's parameter, and at which learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Group {
    /// What trains the weights.
    Weights,
    /// What trains thresholds.
    Thresholds,
}

/// A parameter of a quantizer, `[1]` or `[channels]`, which records hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// The name of the module's field, and so the last of the parameter's path.
    pub field: &'static str,
    /// What it is.
    pub role: Role,
    /// What trains it; `None` where nothing does, and calibration sets it for good.
    pub group: Option<Group>,
    /// Whether weight decay acts on it.
    pub decay: bool,
    /// Whether calibration sets it.
    pub calibrated: bool,
}

impl Learned {
    /// What calibration sets for good.
    pub(crate) const fn set(field: &'static str, role: Role) -> Self {
        Self {
            field,
            role,
            group: None,
            decay: false,
            calibrated: true,
        }
    }

    /// What calibration starts and a group trains, without decay.
    pub(crate) const fn trained(field: &'static str, role: Role, group: Group) -> Self {
        Self {
            group: Some(group),
            ..Self::set(field, role)
        }
    }

    /// The same with decay.
    pub(crate) const fn decaying(self) -> Self {
        Self {
            decay: true,
            ..self
        }
    }
}

/// The default of an option that is on unless told.
pub(crate) fn yes() -> bool {
    true
}

/// What calibration found for the tensor of one quantizer.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// Bits of the quantizer's results.
    pub bits: u32,
    /// How thresholds and ranges are chosen.
    pub init: ThresholdInit,
    /// The values that were seen, for the tensor or for each channel.
    pub histograms: &'a [Histogram],
    /// Whether a negative one was among them.
    pub signed: bool,
    /// Base-2 logarithm of the threshold chosen for each.
    pub log2_threshold: &'a [f32],
    /// How the ends of a range follow from values, the choice, the bits and whether a value is
    /// negative.
    pub range: fn(&Histogram, ThresholdInit, u32, bool) -> (f32, f32),
}

impl Calibration<'_> {
    /// The threshold chosen for each.
    pub fn thresholds(&self) -> Vec<f32> {
        self.log2_threshold.iter().map(|log2| log2.exp2()).collect()
    }

    /// The ends of the range chosen for each.
    pub fn ranges(&self) -> impl Iterator<Item = (f32, f32)> {
        let of_each = self.histograms.iter();
        of_each.map(|values| (self.range)(values, self.init, self.bits, self.signed))
    }
}

/// What a tensor is that reaches a quantizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorKind {
    /// Of a layer, the same in every batch.
    Parameter,
    /// Of a batch, with its samples along the first dimension.
    Batch,
}

impl TensorKind {
    /// How many numbers `x` has, or one of its samples.
    pub(crate) fn numbers<const D: usize>(self, x: &Tensor<D>) -> usize {
        let dims = x.dims();
        let first = usize::from(self == Self::Batch);
        dims[first..].iter().product()
    }
}

/// A quantization method: everything that the rest of the library asks of it. What describes a
/// quantizer is a plain `Config`, what quantizes is the module that implements this.
///
/// What has a default here, most methods have no answer to.
pub(crate) trait Method: Sized {
    /// What describes a quantizer.
    type Config;

    /// The text form of the method.
    const NAME: &'static str;

    /// Widths of the results; `None` where the method knows others by something else.
    const BITS: Option<RangeInclusive<u32>>;

    /// Names of the slots that it is for; `None` for any.
    const SLOTS: Option<&'static [&'static str]> = None;

    /// Its parameters. By the first of them that calibration sets, a quantizer is told from others
    /// in calibration and measuring.
    const LEARNED: &'static [Learned] = &[];

    /// Those that a quantizer of this description has.
    fn learned(_config: &Self::Config) -> &'static [Learned] {
        Self::LEARNED
    }

    /// Whether a function comes before the grid, so that what is stored is not the weight, but what
    /// the function makes the weight of.
    const TRANSFORMS: bool = false;

    /// Whether it can quantize a gradient, as the slots `error` and `gradient` do.
    const GRADIENTS: bool = false;

    /// Bits that hold one number.
    fn bits(config: &Self::Config) -> u32;

    /// Gives the quantizer another width.
    fn set_bits(config: &mut Self::Config, bits: u32);

    /// Sets whether the parameters train or keep what calibration gives them.
    fn set_trained(_config: &mut Self::Config, _trained: bool) {}

    /// Whether the rest of the fields, beside the width, are in their ranges, for a slot of that
    /// name.
    fn check(_config: &Self::Config, _slot: &str) -> Result<(), Error> {
        Ok(())
    }

    /// The largest magnitude of a weight as training starts with it, where that is the method's to say:
    /// it is even between this and its opposite.
    fn first_bound(_config: &Self::Config, _fans: Fans) -> Option<f32> {
        None
    }

    /// The quantizer in a word, for messages.
    fn text(_config: &Self::Config) -> String {
        Self::NAME.into()
    }

    /// Whether the results are integers times a power of two.
    fn has_integers(_config: &Self::Config) -> bool {
        false
    }

    /// The grid of its results, as far as training has come, of a weight with these fans.
    fn stated_grid(_config: &Self::Config, _fans: Fans) -> Option<StatedGrid> {
        None
    }

    /// Builds the quantizer. `channels` is the tensor's channel dimension, where it has one.
    fn init(config: &Self::Config, channels: Option<Channels>, device: &Device) -> Self;

    /// On or off.
    fn switch(&self) -> &Switch;

    /// What it hands to operators for the tensor `x`.
    fn quantization<const D: usize>(&self, x: &Tensor<D>, kind: TensorKind) -> Quantization;

    /// Whether several tensors may share one scale.
    fn shares(_config: &Self::Config) -> bool {
        false
    }

    /// The scale that the tensor alone would have, where it may share one with others.
    fn own_scale<const D: usize>(&self, _x: &Tensor<D>) -> Option<f32> {
        None
    }

    /// The tensor quantized, where it is not by a [`quantization`](Self::quantization) that an
    /// operator does as it reads; always where tensors share the scale `shared`.
    fn composed<const D: usize>(&self, _x: &Tensor<D>, _shared: Option<f32>) -> Option<Tensor<D>> {
        None
    }

    /// What becomes of the gradient of what it quantized.
    fn backward(&self) -> GradientQuantization {
        GradientQuantization::default()
    }

    /// What it makes of a gradient, where its slot is one.
    fn of_gradient(&self) -> GradientQuantization {
        GradientQuantization::default()
    }

    /// Those integers, by the parameters as they are.
    fn integers(&self) -> Option<Integers> {
        None
    }

    /// What it wants counted of its tensor in calibration.
    fn observed(&self) -> Option<Observed> {
        None
    }

    /// What the parameter of that name becomes.
    fn calibrated(_field: &str, _calibration: &Calibration<'_>) -> Option<Vec<f32>> {
        None
    }

    /// Where it clips, for measuring, with the identity by which it is told from others.
    fn measured(&self) -> Option<(ParamId, Grids)> {
        None
    }
}
