//! Clamp to an interval.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
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
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Hardtanh {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::activation::HardtanhConfig::new()
            .with_min_val(self.min_val)
            .with_max_val(self.max_val)
            .init();
        Hardtanh {
            min_val: plain.min_val,
            max_val: plain.max_val,
            quantizers,
        }
    }
}

impl Describe for HardtanhConfig {
    fn describe(&self) -> Description {
        Description::new("Hardtanh")
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        let (least, greatest) = (self.min_val, self.max_val);
        if least <= greatest && least.is_finite() && greatest.is_finite() {
            return Ok(());
        }
        let message =
            format!("is {least} with max_val {greatest}, expected finite and not above it");
        Err(Error::config("min_val", message))
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
