//! Rectified linear unit, capped at 6.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::QConfig;
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
    pub fn init(&self, device: &Device) -> Relu6 {
        Relu6 {
            quantizers: self.quantization.init(None, device),
        }
    }
}

impl Relu6 {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::relu6(input))
    }
}
