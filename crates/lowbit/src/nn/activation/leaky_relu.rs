//! Rectifier with a slope below zero.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`LeakyRelu`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct LeakyReluConfig {
    /// The slope below zero.
    #[config(default = 0.01)]
    pub negative_slope: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x` where `x >= 0`, `negative_slope * x` below.
#[derive(Module, Debug)]
pub struct LeakyRelu {
    /// The slope below zero.
    pub negative_slope: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl LeakyReluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> LeakyRelu {
        LeakyRelu {
            negative_slope: self.negative_slope,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for LeakyReluConfig {
    fn describe(&self) -> Description {
        Description::new("LeakyRelu").leaving_grid()
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl LeakyRelu {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers
            .output(ops::leaky_relu(input, self.negative_slope))
    }
}
