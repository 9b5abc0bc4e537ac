//! Rectified linear unit.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`Relu`].
#[derive(Config, Debug)]
pub struct ReluConfig {
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `max(x, 0)`.
#[derive(Module, Debug)]
pub struct Relu {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl ReluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Relu {
        Relu {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for ReluConfig {
    fn describe(&self) -> Description {
        Description::new("Relu")
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Relu {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::relu(input))
    }
}
