//! Mish.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Mish`]; what is quantized.
#[derive(Config, Debug)]
pub struct MishConfig {
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x tanh(ln(1 + e^x))` (Misra, arXiv 1908.08681). Composed of Burn's functions.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::MishConfig;
///
/// let device = Device::flex();
/// let layer = MishConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([0.0, 100.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 100.0]);
/// ```
#[derive(Module, Debug)]
pub struct Mish {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl MishConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Mish {
        Mish {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for MishConfig {
    fn describe(&self) -> Description {
        Description::new("Mish")
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

impl Mish {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::mish(input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = MishConfig::new().init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = x * (1.0 + x.exp()).ln().tanh();
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
