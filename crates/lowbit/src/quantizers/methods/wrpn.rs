//! WRPN: weights clipped to the unit interval of both signs.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::ops::Quantization;
use crate::quantizers::methods::method::{Channels, Method, TensorKind};
use crate::quantizers::watch::Switch;

/// Wide reduced-precision networks (Mishra et al., arXiv 1709.01134, section 4): weights clipped to
/// `-1..1`, `q = round(w (2^(k-1) - 1)) / (2^(k-1) - 1)`; the gradient is zero where a weight was
/// clipped. The paper's activations, clipped to `0..1` on `2^k - 1` steps, are
/// [`DorefaActivation`](super::DorefaActivation), and its networks are wider by a factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrpnConfig {
    /// Bits of the result, sign included, 2 to 16.
    pub bits: u32,
}

impl WrpnConfig {
    /// Widths of the results.
    pub const BITS: RangeInclusive<u32> = 2..=16;
}

/// The module of [`WrpnConfig`].
#[derive(Module, Debug)]
pub struct WrpnWeight {
    /// Bits of the result, sign included.
    pub bits: u32,
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
            switch: Switch::default(),
        }
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::EvenLevels {
            end: Tensor::ones([1], &x.device()),
            steps: 2 * ((1 << (self.bits - 1)) - 1),
            pass: false,
            axis: 0,
        }
    }
}
