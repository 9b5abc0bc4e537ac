//! Rectified linear unit, capped at 6.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`Relu6`].
#[derive(Config, Debug)]
pub struct Relu6Config {
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `min(max(x, 0), 6)`.
#[derive(Module, Debug)]
pub struct Relu6 {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl Relu6Config {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Relu6 {
        Relu6 {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for Relu6Config {
    fn describe(&self) -> Description {
        Description::new("Relu6")
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Relu6 {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::relu6(input))
    }
}
