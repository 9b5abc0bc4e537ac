//! Clamp to an interval.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::QConfig;
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`Hardtanh`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct HardtanhConfig {
    /// The least value.
    #[config(default = "-1.0")]
    pub min_val: f64,
    /// The greatest value, not below the least.
    #[config(default = "1.0")]
    pub max_val: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `min(max(x, min_val), max_val)`.
#[derive(Module, Debug)]
pub struct Hardtanh {
    /// The least value.
    pub min_val: f64,
    /// The greatest value.
    pub max_val: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl HardtanhConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// If a limit is not finite, or the least is above the greatest, as Burn's does.
    pub fn init(&self, device: &Device) -> Hardtanh {
        let plain = burn::nn::activation::HardtanhConfig::new()
            .with_min_val(self.min_val)
            .with_max_val(self.max_val)
            .init();
        Hardtanh {
            min_val: plain.min_val,
            max_val: plain.max_val,
            quantizers: self.quantization.init(None, device),
        }
    }
}

impl Hardtanh {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers
            .output(ops::hardtanh(input, self.min_val, self.max_val))
    }
}
