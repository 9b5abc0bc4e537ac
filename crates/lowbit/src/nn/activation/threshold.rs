//! Another number up to a threshold.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Threshold`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct ThresholdConfig {
    /// Up to where.
    pub threshold: f64,
    /// The other number.
    pub value: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x` where `x > threshold`, `value` elsewhere.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::ThresholdConfig;
///
/// let device = Device::flex();
/// let layer = ThresholdConfig::new(0.5, 4.0).init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-1.0, 2.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [4.0, 2.0]);
/// ```
#[derive(Module, Debug)]
pub struct Threshold {
    /// Up to where.
    pub threshold: f64,
    /// The other number.
    pub value: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl ThresholdConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Threshold {
        Threshold {
            threshold: self.threshold,
            value: self.value,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for ThresholdConfig {
    fn describe(&self) -> Description {
        let signs = match (self.value < 0.0, self.threshold < 0.0) {
            (true, _) => Signs::Any,
            (false, true) => Signs::OfInputs,
            (false, false) => Signs::NeverNegative,
        };
        Description::new("Threshold")
            .leaving_grid()
            .with_signs(signs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Threshold {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers
            .output(ops::threshold(input, self.threshold, self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = ThresholdConfig::new(0.5, 4.0).init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = if x > 0.5 { x } else { 4.0 };
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
