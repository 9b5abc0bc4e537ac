//! Sigmoid linear unit.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Silu`]; what is quantized.
#[derive(Config, Debug)]
pub struct SiluConfig {
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x / (1 + e^-x)`, the function of `burn::nn::activation::SiLU` (Elfwing et al., arXiv 1702.03118).
/// Composed of Burn's functions.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::SiluConfig;
///
/// let device = Device::flex();
/// let layer = SiluConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([0.0, 100.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 100.0]);
/// ```
#[derive(Module, Debug)]
pub struct Silu {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl SiluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Silu {
        Silu {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for SiluConfig {
    fn describe(&self) -> Description {
        Description::new("Silu")
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

impl Silu {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::silu(input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = SiluConfig::new().init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = x / (1.0 + (-x).exp());
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
