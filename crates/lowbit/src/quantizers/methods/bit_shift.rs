//! Time constants and decays that a shift computes.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::{Codebook, Format, Rounding};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{ClampedGradient, Quantization};
use crate::quantizers::methods::format::Draws;
use crate::quantizers::methods::method::{Channels, Method, TensorKind};
use crate::quantizers::watch::Switch;

/// Shifts of a spiking layer: time constants `tau = 2^k`, or decays `alpha = 1 - 2^-k`, of which
/// `alpha v` is `v - (v >> k)`; `k` is a whole number from 0 to `max_shift`.
///
/// A number is rounded to the nearest of these values, or with `rounding = "stochastic"` to one of its
/// two neighbours, with a chance that leaves its mean as it is (as aquatic's
/// `TauStochasticRoundingToBitShift` and `AlphaStochasticRoundingToBitShift`); beyond the ends it is
/// the end. The gradient passes straight through, with `clamped = "zero"` not beyond the ends.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::quantizers::{BitShiftConfig, QuantizerConfig};
///
/// let rounded = |config: QuantizerConfig, x: [f32; 4]| {
///     let device = Device::flex();
///     let quantizer = config.init(None, &device);
///     let y = quantizer.operand(Tensor::<1>::from_floats(x, &device)).quantized();
///     y.into_data().iter::<f32>().collect::<Vec<_>>()
/// };
/// let tau = QuantizerConfig::ShiftTau(BitShiftConfig::new(3));
/// assert_eq!(rounded(tau, [0.5, 2.9, 3.1, 31.0]), [1.0, 2.0, 4.0, 8.0]);
/// let alpha = QuantizerConfig::ShiftAlpha(BitShiftConfig::new(3));
/// assert_eq!(rounded(alpha, [0.1, 0.6, 0.8, 0.99]), [0.0, 0.5, 0.75, 0.875]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitShiftConfig {
    /// The largest shift, 1 to 24.
    pub max_shift: u32,
    /// How a number between two values is rounded.
    #[serde(default)]
    pub rounding: Rounding,
    /// The gradient beyond the ends.
    #[serde(default = "pass")]
    pub clamped: ClampedGradient,
}

fn pass() -> ClampedGradient {
    ClampedGradient::Pass
}

impl BitShiftConfig {
    /// Largest shifts.
    pub const MAX_SHIFTS: RangeInclusive<u32> = 1..=24;

    /// To the nearest, straight through.
    pub fn new(max_shift: u32) -> Self {
        Self {
            max_shift,
            rounding: Rounding::default(),
            clamped: ClampedGradient::Pass,
        }
    }

    /// The same with another rounding.
    pub fn with_rounding(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// Bits that hold a shift.
    fn bits(&self) -> u32 {
        u32::BITS - self.max_shift.leading_zeros()
    }

    fn check(&self, slot: &str) -> Result<(), Error> {
        let refused = |message: String| Err(Error::config(slot, message));
        let shifts = Self::MAX_SHIFTS;
        if !shifts.contains(&self.max_shift) {
            let (first, last) = (shifts.start(), shifts.end());
            let max = self.max_shift;
            return refused(format!("max_shift is {max}, expected {first} to {last}"));
        }
        if self.clamped == ClampedGradient::ZeroRounded {
            return refused("clamped: zero-rounded is of fixed point".into());
        }
        let rounding = self.rounding.validate();
        rounding.map_err(|error| Error::config(slot, format!("rounding: {error}")))
    }

    /// The values that shifts make.
    fn values(&self, of: fn(i32) -> f32) -> Format {
        let shifts = (0..=self.max_shift).map(|k| of(k as i32));
        let values: Vec<f32> = shifts.collect();
        let table = Codebook::new(&values).expect("they are different and finite");
        table.into()
    }
}

/// The module of a [`BitShiftConfig`] in the slot `tau`.
#[derive(Module, Debug)]
pub struct ShiftTau {
    #[module(skip)]
    shifts: Shifts,
    /// On or off.
    pub switch: Switch,
}

/// The module of a [`BitShiftConfig`] in the slot `alpha`.
#[derive(Module, Debug)]
pub struct ShiftAlpha {
    #[module(skip)]
    shifts: Shifts,
    /// On or off.
    pub switch: Switch,
}

#[derive(Debug, Clone)]
struct Shifts {
    values: Format,
    rounding: Rounding,
    clamped: ClampedGradient,
    draws: Draws,
}

impl Shifts {
    fn new(config: &BitShiftConfig, of: fn(i32) -> f32) -> Self {
        Self {
            values: config.values(of),
            rounding: config.rounding,
            clamped: config.clamped,
            draws: Draws::new(),
        }
    }

    fn quantization(&self) -> Quantization {
        Quantization::Format {
            format: self.values.clone(),
            rounding: self.draws.rounding(self.rounding),
            clamped: self.clamped,
        }
    }
}

/// Both methods differ in the values alone.
macro_rules! shifts {
    ($Module:ident, $name:literal, $slot:literal, $value:expr) => {
        impl Method for $Module {
            type Config = BitShiftConfig;

            const NAME: &'static str = $name;
            /// The largest shift says how many bits a shift has.
            const BITS: Option<RangeInclusive<u32>> = None;
            const SLOTS: Option<&'static [&'static str]> = Some(&[$slot]);

            fn bits(config: &BitShiftConfig) -> u32 {
                config.bits()
            }

            fn set_bits(_config: &mut BitShiftConfig, _bits: u32) {}

            fn check(config: &BitShiftConfig, slot: &str) -> Result<(), Error> {
                config.check(slot)
            }

            fn init(config: &BitShiftConfig, _: Option<Channels>, _: &Device) -> Self {
                Self {
                    shifts: Shifts::new(config, $value),
                    switch: Switch::default(),
                }
            }

            fn switch(&self) -> &Switch {
                &self.switch
            }

            fn quantization<const D: usize>(&self, _: &Tensor<D>, _: TensorKind) -> Quantization {
                self.shifts.quantization()
            }
        }
    };
}

shifts!(ShiftTau, "shift-tau", "tau", |k| 2f32.powi(k));
shifts!(ShiftAlpha, "shift-alpha", "alpha", |k| 1.0 - 2f32.powi(-k));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{QuantizerConfig, set_rounding};

    fn drawn(config: QuantizerConfig, x: f32) -> Vec<f32> {
        set_rounding(7, 1);
        let device = Device::flex();
        let quantizer = config.init(None, &device);
        let x = Tensor::<1>::full([4000], x, &device);
        let y = quantizer.operand(x).quantized();
        y.into_data().iter::<f32>().collect()
    }

    fn stochastic() -> BitShiftConfig {
        BitShiftConfig::new(3).with_rounding("stochastic".parse().unwrap())
    }

    /// aquatic's tests of its `TauStochasticRoundingToBitShift(quant_max=3)`: tau from 1 to 31 becomes one
    /// of 1 and 2 up to 2, of 2 and 4 up to 4, of 4 and 8 up to 8, and 8 above.
    #[test]
    fn a_time_constant_becomes_a_neighbour() {
        for tau in 1..32u8 {
            let tau = f32::from(tau);
            let expected: &[f32] = match tau {
                ..=2.0 => &[1.0, 2.0],
                ..=4.0 => &[2.0, 4.0],
                ..=8.0 => &[4.0, 8.0],
                _ => &[8.0],
            };
            let found = drawn(QuantizerConfig::ShiftTau(stochastic()), tau);
            assert!(found.iter().all(|y| expected.contains(y)), "{tau}");
        }
    }

    /// Its test of alpha: 0 or 0.5 up to 0.5, 0.5 or 0.75 up to 0.75, 0.75 or 0.875 above. The mean of
    /// 4000 draws between neighbours a quarter apart has a deviation below 0.25 / 2 / sqrt(4000) = 0.002.
    #[test]
    fn a_decay_becomes_a_neighbour_and_keeps_its_mean() {
        for (alpha, expected) in [
            (0.3f32, [0.0, 0.5]),
            (0.6, [0.5, 0.75]),
            (0.8, [0.75, 0.875]),
        ] {
            let found = drawn(QuantizerConfig::ShiftAlpha(stochastic()), alpha);
            assert!(found.iter().all(|y| expected.contains(y)), "{alpha}");
            let mean = found.iter().sum::<f32>() / found.len() as f32;
            assert!((mean - alpha).abs() < 0.02, "{alpha}: {mean}");
        }
        let one = drawn(QuantizerConfig::ShiftAlpha(stochastic()), 1.0);
        assert!(one.iter().all(|&y| y == 0.875));
    }

    #[test]
    fn they_are_for_their_slots() {
        let refused = |text: &str| {
            let config: QuantizerConfig = toml::from_str(text).unwrap();
            config.check("tau").unwrap_err().to_string()
        };
        assert_eq!(
            refused("method = \"shift-alpha\"\nmax_shift = 3"),
            "tau: shift-alpha is for alpha"
        );
        assert_eq!(
            refused("method = \"shift-tau\"\nmax_shift = 25"),
            "tau: max_shift is 25, expected 1 to 24"
        );
    }

    /// The gradient is that of the identity, and with `zero` not beyond the ends.
    #[test]
    fn the_gradient_passes_straight_through() {
        let device = Device::flex().autodiff();
        let gradients = |clamped| {
            let config = BitShiftConfig {
                clamped,
                ..BitShiftConfig::new(3)
            };
            let x = Tensor::<1>::from_floats([0.5, 3.0, 9.0], &device).require_grad();
            let quantizer = QuantizerConfig::ShiftTau(config).init(None, &device);
            let y = quantizer.operand(x.clone()).quantized();
            let grads = y.sum().backward();
            let dx = x.grad(&grads).unwrap();
            dx.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert_eq!(gradients(ClampedGradient::Pass), [1.0, 1.0, 1.0]);
        assert_eq!(gradients(ClampedGradient::Zero), [0.0, 1.0, 0.0]);
    }
}
