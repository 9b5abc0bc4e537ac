//! Rectifier with a threshold.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`ThresholdedRelu`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct ThresholdedReluConfig {
    /// The threshold.
    #[config(default = "1.0")]
    pub alpha: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x` where `x > alpha`, 0 elsewhere (Konda et al., arXiv 1402.3337).
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::ThresholdedReluConfig;
///
/// let device = Device::flex();
/// let layer = ThresholdedReluConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-1.0, 0.5, 2.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 0.0, 2.0]);
/// ```
#[derive(Module, Debug)]
pub struct ThresholdedRelu {
    /// The threshold.
    pub alpha: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl ThresholdedReluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> ThresholdedRelu {
        ThresholdedRelu {
            alpha: self.alpha,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for ThresholdedReluConfig {
    fn describe(&self) -> Description {
        let signs = match self.alpha < 0.0 {
            true => Signs::OfInputs,
            false => Signs::NeverNegative,
        };
        Description::new("ThresholdedRelu").with_signs(signs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl ThresholdedRelu {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers
            .output(ops::thresholded_relu(input, self.alpha))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = ThresholdedReluConfig::new().init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = if x > 1.0 { x } else { 0.0 };
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
