//! Formats on the unit interval, brought to the largest magnitude of each tensor.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::{FixedPoint, Format, Rounding};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{
    ClampedGradient, GradientQuantization, GradientRange, LargestPower, Quantization, min_max,
};
use crate::quantizers::methods::format::Draws;
use crate::quantizers::methods::method::{Channels, Fans, Method, StatedGrid, TensorKind};
use crate::quantizers::watch::Switch;

/// Shift quantization, `R q(x / R)`: a power of two `R` by the largest magnitude of the tensor
/// ([`LargestPower`]), 1 for a tensor of zeros, and what a format makes of the quotient.
///
/// With `fixed(k,k-1,symmetric)` it is `SQ` of WAGEUBN (Yang et al., arXiv 1909.02384, section III),
/// `R clip(Q(x / R, k), -1 + d, 1 - d)`: the errors `E1` in 8 bits, and `E2` in its form of 16; with
/// `flag(8)` it is `E2` in 8 bits and a flag. With `power = "above"` and stochastic rounding it is the
/// block exponent of NITI (Wang et al., arXiv 2009.13108, section III), of activations, too.
///
/// The gradient of a tensor that it quantizes forward passes straight through, or is zero where the
/// format clipped.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::quantizers::QuantizerConfig;
///
/// let config = r#"{ "method": "shift", "format": "fixed(4,3,symmetric)" }"#;
/// let config: QuantizerConfig = serde_json::from_str(config)?;
/// let device = Device::flex();
/// let x = Tensor::<1>::from_floats([3.6, -0.9, 0.2], &device);
/// // R is 4, and a step half of one: 3.6 is held to 7 steps, -0.9 is two.
/// let y = config.init(None, &device).operand(x).quantized();
/// assert_eq!(y.into_data().try_to_vec::<f32>()?, [3.5, -1.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftConfig {
    /// What rounds the quotient: fixed point, or `flag(k)`, made for values from -1 to 1.
    pub format: Format,
    /// How a number between two values is rounded.
    #[serde(default)]
    pub rounding: Rounding,
    /// Which power of two `R` is.
    #[serde(default, skip_serializing_if = "LargestPower::is_nearest")]
    pub power: LargestPower,
    /// The gradient where the format clips.
    #[serde(default = "pass")]
    pub clamped: ClampedGradient,
}

fn pass() -> ClampedGradient {
    ClampedGradient::Pass
}

impl ShiftConfig {
    /// The paper's `SQ` in so many bits, to nearest; a format is made for -1 to 1.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            rounding: Rounding::default(),
            power: LargestPower::Nearest,
            clamped: ClampedGradient::Pass,
        }
    }

    fn check(&self, slot: &str) -> Result<(), Error> {
        let refused = |message: String| Err(Error::config(slot, message));
        if self.format.times_power_of_two(0).is_none() {
            let format = &self.format;
            return refused(format!(
                "format: is {format}, expected fixed(..) or flag(..)"
            ));
        }
        if self.clamped == ClampedGradient::ZeroRounded
            && !ClampedGradient::has_rounded(&self.format)
        {
            let format = &self.format;
            return refused(format!(
                "clamped: zero-rounded is for fixed point that clamps, not {format}"
            ));
        }
        let rounding = self.rounding.validate();
        rounding.map_err(|error| Error::config(slot, format!("rounding: {error}")))
    }
}

/// The module of [`ShiftConfig`]. It has no parameters.
#[derive(Module, Debug)]
pub struct Shift {
    #[module(skip)]
    config: ShiftConfig,
    /// On or off.
    pub switch: Switch,
    #[module(skip)]
    draws: Draws,
}

impl Method for Shift {
    type Config = ShiftConfig;

    const NAME: &'static str = "shift";
    /// A format has its own.
    const BITS: Option<RangeInclusive<u32>> = None;
    const GRADIENTS: bool = true;

    fn bits(config: &ShiftConfig) -> u32 {
        config.format.bits()
    }

    fn set_bits(_config: &mut ShiftConfig, _bits: u32) {}

    fn check(config: &ShiftConfig, slot: &str) -> Result<(), Error> {
        config.check(slot)
    }

    fn stated_grid(config: &ShiftConfig, _fans: Fans) -> Option<StatedGrid> {
        Some(StatedGrid::Shifted(config.format.clone()))
    }

    fn init(config: &ShiftConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        Self {
            config: config.clone(),
            switch: Switch::default(),
            draws: Draws::new(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        let (least, greatest) = min_max(x);
        let largest = least.abs().max(greatest.abs());
        Quantization::Format {
            format: self.config.power.format(&self.config.format, largest),
            rounding: self.draws.rounding(self.config.rounding),
            clamped: self.config.clamped,
        }
    }

    fn of_gradient(&self) -> GradientQuantization {
        let rounding = self.draws.rounding(self.config.rounding);
        GradientQuantization {
            range: GradientRange::OfTensor(self.config.power),
            ..GradientQuantization::to(self.config.format.clone(), rounding)
        }
    }
}

/// Fixed point of so many bits between -1 and 1, without its ends: `clip(Q(x, k), -1 + d, 1 - d)` with
/// `d = 2^(1 - k)`.
///
/// # Panics
/// If `bits` is not from 2 to 24.
pub(crate) fn unit_interval(bits: u32) -> FixedPoint {
    let word = u8::try_from(bits)
        .ok()
        .filter(|word| (2..=24).contains(word));
    let word = word.expect("a width from 2 to 24");
    let fixed = FixedPoint::new(word, word as i8 - 1).and_then(FixedPoint::symmetric);
    fixed.expect("a width that has a format")
}
