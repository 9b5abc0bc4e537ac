//! WRPN: weights clipped to the unit interval of both signs.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::kernel;
use serde::{Deserialize, Serialize};

use crate::ops::{ClampedGradient, Quantization, count_rows};
use crate::quantizers::methods::method::{Channels, Method, TensorKind};
use crate::quantizers::watch::Switch;

/// Wide reduced-precision networks (Mishra et al., arXiv 1709.01134, section 5): weights clipped to
/// `-1..1`, `q = round(w (2^(k-1) - 1)) / (2^(k-1) - 1)`; the gradient is zero where a weight was
/// clipped. The paper's activations, clipped to `0..1` on `2^k - 1` steps, are
/// [`DorefaActivation`](super::DorefaActivation), and its networks are wider by a factor.
///
/// Weights as networks begin with are small beside a step of few bits, and where all of a layer's are
/// rounded to zero it never learns: `clip = "maximum"` has the same steps up to the weight's largest
/// magnitude in place of 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrpnConfig {
    /// Bits of the result, sign included, 2 to 16.
    pub bits: u32,
    /// Where weights are clipped.
    #[serde(default, skip_serializing_if = "WrpnClip::is_one")]
    pub clip: WrpnClip,
}

/// Where weights are clipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrpnClip {
    /// At 1, as in the paper.
    #[default]
    One,
    /// At the largest magnitude, which is none.
    Maximum,
}

impl WrpnClip {
    fn is_one(&self) -> bool {
        *self == Self::One
    }
}

impl WrpnConfig {
    /// Widths of the results.
    pub const BITS: RangeInclusive<u32> = 2..=16;

    /// Weights clipped at 1.
    pub fn new(bits: u32) -> Self {
        Self {
            bits,
            clip: WrpnClip::One,
        }
    }
}

/// The module of [`WrpnConfig`].
#[derive(Module, Debug)]
pub struct WrpnWeight {
    /// Bits of the result, sign included.
    pub bits: u32,
    #[module(skip)]
    clip: WrpnClip,
    /// On or off.
    pub switch: Switch,
}

impl Method for WrpnWeight {
    type Config = WrpnConfig;

    const NAME: &'static str = "wrpn-weight";
    const BITS: Option<RangeInclusive<u32>> = Some(WrpnConfig::BITS);
    const SLOTS: Option<&'static [&'static str]> = Some(&["weight"]);

    fn bits(config: &WrpnConfig) -> u32 {
        config.bits
    }

    fn set_bits(config: &mut WrpnConfig, bits: u32) {
        config.bits = bits;
    }

    fn init(config: &WrpnConfig, _channels: Option<Channels>, _device: &Device) -> Self {
        Self {
            bits: config.bits,
            clip: config.clip,
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        let end = match self.clip {
            WrpnClip::One => vec![1.0],
            WrpnClip::Maximum => count_rows(x, None, kernel::max_abs),
        };
        Quantization::EvenLevels {
            end: Tensor::from_floats(&end[..], &x.device()),
            steps: 2 * ((1 << (self.bits - 1)) - 1),
            clamped: ClampedGradient::Zero,
            axis: 0,
        }
    }
}
