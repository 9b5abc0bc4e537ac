//! Rectified linear unit.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Relu`].
#[derive(Config, Debug)]
pub struct ReluConfig {
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `max(x, 0)`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::ReluConfig;
///
/// let device = Device::flex();
/// let layer = ReluConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-1.0, 2.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 2.0]);
/// ```
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
        Description::new("Relu").with_signs(Signs::NeverNegative)
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
        let layer = ReluConfig::new().with_quantization(config).init(&device);
        let y = layer.forward(Tensor::<1>::from_floats([0.3, -0.3], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.25, 0.0]);
    }
}
