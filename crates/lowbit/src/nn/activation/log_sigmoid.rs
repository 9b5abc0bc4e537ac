//! The logarithm of the logistic function.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`LogSigmoid`]; what is quantized.
#[derive(Config, Debug)]
pub struct LogSigmoidConfig {
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `-ln(1 + e^-x)`. Composed of Burn's functions.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::LogSigmoidConfig;
///
/// let device = Device::flex();
/// let layer = LogSigmoidConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-100.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-100.0]);
/// ```
#[derive(Module, Debug)]
pub struct LogSigmoid {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl LogSigmoidConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> LogSigmoid {
        LogSigmoid {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for LogSigmoidConfig {
    fn describe(&self) -> Description {
        Description::new("LogSigmoid")
            .leaving_grid()
            .with_signs(Signs::Any)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl LogSigmoid {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::log_sigmoid(input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = LogSigmoidConfig::new().init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = -(1.0 + (-x).exp()).ln();
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
