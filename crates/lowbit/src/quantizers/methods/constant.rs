//! Constant quantization of the gradients of weights.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::{FixedPoint, Format, Rounding};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{ClampedGradient, GradientHook, GradientQuantization, LargestPower, Quantization};
use crate::quantizers::methods::format::Draws;
use crate::quantizers::methods::method::{Channels, Fans, Method, StatedGrid, TensorKind};
use crate::quantizers::methods::progress::progress;
use crate::quantizers::watch::Switch;

/// Constant quantization `CQ` of WAGEUBN (Yang et al., arXiv 1909.02384, section III-E):
/// `clip(Sr(d g / R), -d + 1, d - 1) / 2^(bits - 1)`, with stochastic rounding to integers `Sr`, the
/// power of two `R` nearest to the largest magnitude of the tensor, and the range `d`, which becomes
/// smaller on the way. Only where a gradient points to, and how its numbers compare, is left of it: `R`
/// does not come back. A tensor of zeros stays one.
///
/// How far training has come is said by [`set_progress`](super::set_progress).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConstantConfig {
    /// Bits of the result, whose step is `2^(1 - bits)`, 2 to 24.
    pub bits: u32,
    /// The ranges `d`, one after the other: powers of two from 2 to `2^(bits - 1)`.
    pub ranges: Vec<u32>,
    /// Parts of training after which the next range begins, one fewer than ranges, in order.
    pub milestones: Vec<f64>,
}

/// A milestone that is no number is refused.
impl Eq for ConstantConfig {}

impl Default for ConstantConfig {
    /// The stages of the paper's authors, whose training has 100 epochs.
    fn default() -> Self {
        Self {
            bits: 15,
            ranges: vec![128, 128, 32, 8, 2],
            milestones: vec![0.3, 0.6, 0.8, 0.9],
        }
    }
}

impl ConstantConfig {
    /// Widths of the result.
    pub const BITS: RangeInclusive<u32> = 2..=24;

    /// Whether every field is in its range.
    ///
    /// # Errors
    /// With the name of the field.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |field: &str, message: String| Err(Error::config(field, message));
        if !Self::BITS.contains(&self.bits) {
            return refused("bits", format!("is {}, expected 2 to 24", self.bits));
        }
        let largest = 1 << (self.bits - 1);
        let is_range = |d: &u32| d.is_power_of_two() && (2..=largest).contains(d);
        if let Some(range) = self.ranges.iter().find(|d| !is_range(d)) {
            let message = format!("has {range}, expected powers of two from 2 to {largest}");
            return refused("ranges", message);
        }
        let (ranges, milestones) = (self.ranges.len(), self.milestones.len());
        if ranges != milestones + 1 {
            let message = format!("are {milestones}, expected one fewer than the {ranges} ranges");
            return refused("milestones", message);
        }
        let in_order = self.milestones.is_sorted();
        match self.milestones.iter().all(|m| (0.0..=1.0).contains(m)) && in_order {
            true => Ok(()),
            false => refused("milestones", "are not parts from 0 to 1 in order".into()),
        }
    }

    /// The range after that part of training.
    pub fn range(&self, part: f64) -> u32 {
        let passed = self.milestones.iter().filter(|m| part >= **m).count();
        self.ranges[passed]
    }

    /// The results of a range.
    fn format(&self, range: u32) -> Format {
        let (word, fraction) = (range.trailing_zeros() as u8 + 1, self.bits as i8 - 1);
        let format = FixedPoint::new(word, fraction).and_then(FixedPoint::symmetric);
        format.expect("a checked configuration has a format").into()
    }

    /// What it makes of a gradient, with the random numbers of this call.
    pub(crate) fn of_gradient(&self, draws: &Draws) -> GradientQuantization {
        let range = self.range(progress());
        let format = self.format(range);
        let step = (1.0 - f64::from(self.bits)).exp2();
        let scale = (f64::from(range) * step) as f32;
        let rounding = draws.rounding(Rounding::stochastic(0, 0));
        GradientQuantization {
            hooks: vec![
                GradientHook::Shift(LargestPower::Nearest),
                GradientHook::Scale(scale),
            ],
            ..GradientQuantization::to(format, rounding)
        }
    }
}

/// The module of [`ConstantConfig`]. It has no parameters.
#[derive(Module, Debug)]
pub struct Constant {
    #[module(skip)]
    config: ConstantConfig,
    /// On or off.
    pub switch: Switch,
    #[module(skip)]
    draws: Draws,
}

impl Method for Constant {
    type Config = ConstantConfig;

    const NAME: &'static str = "constant";
    const BITS: Option<RangeInclusive<u32>> = Some(ConstantConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["gradient"]);
    const GRADIENTS: bool = true;

    fn bits(config: &ConstantConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut ConstantConfig, bits: u32) {
        config.bits = bits;
    }

    fn check(config: &ConstantConfig, slot: &str) -> Result<(), Error> {
        config.check().map_err(|error| error.within(slot))
    }

    fn stated_grid(config: &ConstantConfig, _fans: Fans) -> Option<StatedGrid> {
        let range = config.range(progress());
        Some(StatedGrid::Of(config.format(range)))
    }

    fn init(config: &ConstantConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        Self {
            config: config.clone(),
            switch: Switch::default(),
            draws: Draws::new(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    /// A tensor that is no gradient is rounded to the result's step.
    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        let format = self.config.of_gradient(&self.draws).rounding;
        let (format, rounding) = format.expect("it has one");
        Quantization::Format {
            format,
            rounding,
            clamped: ClampedGradient::Pass,
        }
    }

    fn of_gradient(&self) -> GradientQuantization {
        self.config.of_gradient(&self.draws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::set_progress;

    #[test]
    fn ranges_follow_the_progress() {
        let config = ConstantConfig::default();
        let ranges = [0.0, 0.3, 0.59, 0.6, 0.85, 0.9, 1.0].map(|part| config.range(part));
        assert_eq!(ranges, [128, 128, 128, 32, 8, 2, 2]);
        let scale = |part| {
            set_progress(part);
            let made = config.of_gradient(&Draws::new());
            let (format, _) = made.rounding.unwrap();
            let GradientHook::Scale(scale) = made.hooks[1] else {
                panic!("it shifts and scales");
            };
            (scale, format.to_string())
        };
        assert_eq!(scale(0.0), (2f32.powi(-7), "fixed(8,14,symmetric)".into()));
        assert_eq!(
            scale(0.95),
            (2f32.powi(-13), "fixed(2,14,symmetric)".into())
        );
        set_progress(0.0);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let refused = |config: ConstantConfig| config.check().unwrap_err().to_string();
        let config = ConstantConfig::default;
        let ranges = vec![100];
        assert_eq!(
            refused(ConstantConfig { ranges, ..config() }),
            "ranges: has 100, expected powers of two from 2 to 16384"
        );
        let milestones = vec![0.5];
        assert_eq!(
            refused(ConstantConfig {
                milestones,
                ..config()
            }),
            "milestones: are 1, expected one fewer than the 5 ranges"
        );
        let milestones = vec![0.5, 0.4, 0.6, 0.7];
        let unsorted = ConstantConfig {
            milestones,
            ..config()
        };
        assert!(refused(unsorted).contains("in order"));
        assert!(config().check().is_ok());
    }
}
