//! Rectifier with a slope below zero.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

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
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::LeakyReluConfig;
///
/// let device = Device::flex();
/// let layer = LeakyReluConfig::new().with_negative_slope(0.5).init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-1.0, 2.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-0.5, 2.0]);
/// ```
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
        Description::new("LeakyRelu")
            .leaving_grid()
            .with_signs(Signs::OfInputs)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// On a grid of quarters with a sign, 0.3 is 0.25 and -0.3 is -0.25, before anything else.
    #[test]
    fn what_it_reads_is_quantized() {
        let input =
            QuantizerConfig::Format(FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap()));
        let config = QConfig::new().with("input", input);
        let device = Device::flex();
        let layer = LeakyReluConfig::new()
            .with_quantization(config)
            .with_negative_slope(0.5)
            .init(&device);
        let y = layer.forward(Tensor::<1>::from_floats([0.3, -0.3], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.25, -0.125]);
    }
}
