//! SAWB: weights clipped where their statistics say.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::kernel;
use serde::{Deserialize, Serialize};

use crate::ops::{ClampedGradient, Quantization, count_rows};
use crate::quantizers::methods::method::{Channels, Method, TensorKind};
use crate::quantizers::watch::Switch;

/// Statistics-aware weight binning (Choi et al., "Accurate and Efficient 2-Bit Quantized Neural
/// Networks", SysML 2019; arXiv 1807.06964): values in even steps from `-a` to `a`, with
/// `a = c1 sqrt(E[w^2]) - c2 E[|w|]` over the tensor in every step, or `max |w|` where that is not
/// positive. `c1` and `c2` are fitted so that the square error is least for distributions of six
/// kinds. The gradient passes straight through the rounding, and is zero where a weight is clipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SawbConfig {
    /// Bits of the result, 2 to 8.
    pub bits: u32,
    /// Whether zero is among the values, which are then `2^b - 1` in place of `2^b`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zero: bool,
    /// Whether the gradient passes where a weight is clipped, too: SAWB+ of the authors'
    /// implementation (fms-model-optimizer).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plus: bool,
}

impl SawbConfig {
    /// Widths of the results.
    pub const BITS: RangeInclusive<u32> = 2..=8;

    /// Without zero.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            zero: false,
            plus: false,
        }
    }

    fn coefficients(&self) -> Option<(f64, f64)> {
        let known = if self.zero { WITH_ZERO } else { WITHOUT_ZERO };
        let found = known.iter().find(|(bits, ..)| *bits == self.bits);
        found.map(|&(_, c1, c2)| (c1, c2))
    }
}

/// The module of [`SawbConfig`].
#[derive(Module, Debug)]
pub struct Sawb {
    #[module(skip)]
    config: SawbConfig,
    /// On or off.
    pub switch: Switch,
}

/// Bits, `c1` and `c2`: those of the authors' implementation (fms-model-optimizer) for 2 to 5 and 8
/// bits; for the others, of which it has none, fitted as theirs (`sawb_fit` in
/// `tests/reference/methods.py`).
const WITHOUT_ZERO: &[(u32, f64, f64)] = &[
    (2, 3.12, 2.064),
    (3, 7.509, 6.892),
    (4, 12.68, 12.8),
    (5, 17.74, 18.64),
    (6, 22.27, 24.11),
    (7, 27.57, 30.39),
    (8, 31.76, 35.04),
];

/// The same where zero is among the values: the authors' for 2, 4, 7 and 8 bits.
const WITH_ZERO: &[(u32, f64, f64)] = &[
    (2, 2.6, 1.71),
    (3, 6.944, 6.307),
    (4, 12.035, 12.03),
    (5, 16.93, 17.81),
    (6, 22.17, 23.99),
    (7, 28.24, 30.81),
    (8, 31.76, 35.04),
];

impl Sawb {
    /// The end of the values for these weights.
    fn end(&self, weights: &[f32]) -> f32 {
        let coefficients = self.config.coefficients();
        let (c1, c2) = coefficients.expect("a configuration is checked before it is built");
        let count = weights.len() as f64;
        let (squares, magnitudes) = kernel::fold(
            weights,
            (0.0, 0.0),
            |(squares, magnitudes), w| {
                let w = f64::from(w);
                (squares + w * w, magnitudes + w.abs())
            },
            |a, b| (a.0 + b.0, a.1 + b.1),
        );
        match c1 * (squares / count).sqrt() - c2 * (magnitudes / count) {
            end if end > 0.0 => end as f32,
            _ => kernel::max_abs(weights),
        }
    }
}

impl Method for Sawb {
    type Config = SawbConfig;

    const NAME: &'static str = "sawb";
    const BITS: Option<RangeInclusive<u32>> = Some(SawbConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);

    fn bits(config: &SawbConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut SawbConfig, bits: u32) {
        config.bits = bits;
    }

    fn init(config: &SawbConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        Self {
            config: config.clone(),
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        let end = count_rows(x, None, |weights| self.end(weights));
        Quantization::EvenLevels {
            end: Tensor::from_floats(&end[..], &x.device()),
            steps: (1 << self.config.bits) - 1 - u32::from(self.config.zero),
            clamped: match self.config.plus {
                true => ClampedGradient::Pass,
                false => ClampedGradient::Zero,
            },
            axis: 0,
        }
    }
}
