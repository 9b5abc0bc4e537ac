//! Weights that are stored as integers on the unit interval and read times a power of two: WAGE, NITI.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::ops::Quantization;
use crate::quantizers::methods::method::{Channels, Fans, Method, StatedGrid, TensorKind};
use crate::quantizers::methods::shift::unit_interval;
use crate::quantizers::watch::Switch;

/// The weights of WAGE (Wu, Li, Chen, Shi, arXiv 1802.04680, sections 3.2 and 3.3.1): what the optimizer
/// keeps on the unit interval is read as `Q(w, bits) / a`, with a power of two `a` that depends on how
/// many products a result sums, so that few bits hold weights that are not too large.
///
/// Weights start even between `-L` and `L`, where `L = max(sqrt(6 / n), L_min)`, `L_min = 1.5 d`,
/// `d = 2^(1 - bits)`, and `a = max(2^round(log2(L_min / sqrt(6 / n))), 1)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WageConfig {
    /// Bits of the weights as they are read.
    pub bits: u32,
    /// How large a weight of a float network is taken to be.
    #[serde(default)]
    pub limit: WageLimit,
}

/// The largest weight of a float network whose results sum `n` products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WageLimit {
    /// `sqrt(6 / n)`, as in the paper (section 3.3.1).
    #[default]
    Paper,
    /// `sqrt(3 / n)`, as in the authors' program and QPyTorch's example.
    Authors,
}

impl WageConfig {
    /// Widths of the weights.
    pub const BITS: RangeInclusive<u32> = 2..=16;

    /// The largest first weight, and the exponent of `1 / a`.
    fn start(&self, fans: Fans) -> Start {
        let numerator = match self.limit {
            WageLimit::Paper => 6.0,
            WageLimit::Authors => 3.0,
        };
        let float = (numerator / fans.input as f64).sqrt();
        let least = 1.5 * f64::from(1 - self.bits as i32).exp2();
        let log2_a = (least / float).log2().round().max(0.0) as i32;
        Start {
            bound: float.max(least),
            log2: -log2_a,
        }
    }
}

/// The weights of NITI (Wang et al., arXiv 2009.13108, section III): integers of 8 bits, kept by the
/// optimizer, times a power of two that is the layer's for good.
///
/// Weights start even between `-L` and `L = sqrt(6 / (n_in + n_out))` (Glorot, Bengio, 2010, equation
/// 16), and `2^e` is the least power of two that is not below `L`: the optimizer keeps `w / 2^e`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NitiConfig {
    /// Bits of the integers.
    #[serde(default = "eight")]
    pub bits: u32,
}

fn eight() -> u32 {
    8
}

impl NitiConfig {
    fn start(&self, fans: Fans) -> Start {
        let limit = (6.0 / (fans.input + fans.output) as f64).sqrt();
        let log2 = limit.log2().ceil() as i32;
        Start {
            bound: limit * f64::from(-log2).exp2(),
            log2,
        }
    }
}

/// How weights start, and how they are read.
struct Start {
    /// Their largest magnitude, as they are kept.
    bound: f64,
    /// The exponent of what they are multiplied by.
    log2: i32,
}

/// Both methods differ in how weights start alone.
macro_rules! weights {
    ($(#[$doc:meta])* $Module:ident($Config:ident), $name:literal) => {
        $(#[$doc])*
        #[derive(Module, Debug)]
        pub struct $Module {
            #[module(skip)]
            config: $Config,
            #[module(skip)]
            channels: Option<Channels>,
            /// On or off.
            pub switch: Switch,
        }

        impl Method for $Module {
            type Config = $Config;

            const NAME: &'static str = $name;
            const BITS: Option<RangeInclusive<u32>> = Some(WageConfig::BITS);
            const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);

            fn bits(config: &$Config) -> u32 {
                config.bits
            }

            fn set_bits(config: &mut $Config, bits: u32) {
                config.bits = bits;
            }

            fn init(config: &$Config, channels: Option<Channels>, _device: &Device) -> Self {
                Self {
                    config: config.clone(),
                    channels,
                    switch: Switch::default(),
                }
            }

            fn switch(&self) -> &Switch {
                &self.switch
            }

            fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
                let fans = Fans::of(&x.dims(), self.channels);
                Quantization::ScaledFixed {
                    bits: self.config.bits,
                    log2: self.config.start(fans).log2,
                }
            }

            fn stated_grid(config: &$Config, fans: Fans) -> Option<StatedGrid> {
                let log2 = config.start(fans).log2;
                let format = unit_interval(config.bits).times_power_of_two(log2)?;
                Some(StatedGrid::Of(format.into()))
            }

            fn first_bound(config: &$Config, fans: Fans) -> Option<f32> {
                Some(config.start(fans).bound as f32)
            }
        }
    };
}

weights! {
    /// The module of [`WageConfig`]. It has no parameters.
    WageWeight(WageConfig), "wage-weight"
}

weights! {
    /// The module of [`NitiConfig`]. It has no parameters.
    NitiWeight(NitiConfig), "niti-weight"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fans(input: usize, output: usize) -> Fans {
        Fans { input, output }
    }

    /// Two bits: `L_min` is 3/4. Of 1152 products `sqrt(6 / n)` is 0.0722, 10.39 times smaller, and
    /// log2 of that is 3.38, so `a` is 8; by the authors it is 0.0510, 14.7 times, 3.88: 16. Of six
    /// products it is one, and `a` is 1. Of 8 bits, `L_min` is 0.0117, less than 0.0722.
    #[test]
    fn scales_of_wage_by_hand() {
        let start = |bits, limit, n| {
            let Start { bound, log2 } = WageConfig { bits, limit }.start(fans(n, 1));
            ((bound * 1e4).round() / 1e4, log2)
        };
        assert_eq!(start(2, WageLimit::Paper, 1152), (0.75, -3));
        assert_eq!(start(2, WageLimit::Authors, 1152), (0.75, -4));
        assert_eq!(start(2, WageLimit::Paper, 6), (1.0, 0));
        assert_eq!(start(8, WageLimit::Paper, 1152), (0.0722, 0));
    }

    /// `sqrt(6 / (800 + 500))` is 0.0679, below 2^-3 = 0.125: kept, it is 0.5435.
    #[test]
    fn a_scale_of_niti_by_hand() {
        let Start { bound, log2 } = NitiConfig { bits: 8 }.start(fans(800, 500));
        assert_eq!(((bound * 1e4).round() / 1e4, log2), (0.5435, -3));
    }
}
