//! Scaled exponential linear unit.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Selu`]; what is quantized.
#[derive(Config, Debug)]
pub struct SeluConfig {
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `1.0507 x` where `x > 0`, `1.0507 1.6733 (e^x - 1)` elsewhere (Klambauer et al., arXiv 1706.02515).
/// Composed of Burn's functions.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::SeluConfig;
///
/// let device = Device::flex();
/// let layer = SeluConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([0.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0]);
/// ```
#[derive(Module, Debug)]
pub struct Selu {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl SeluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Selu {
        Selu {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for SeluConfig {
    fn describe(&self) -> Description {
        Description::new("Selu")
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

impl Selu {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::selu(input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = SeluConfig::new().init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = {
                let (alpha, scale) = (1.673_263_242_354_377, 1.050_700_987_355_480_5);
                scale * if x > 0.0 { x } else { alpha * (x.exp() - 1.0) }
            };
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
