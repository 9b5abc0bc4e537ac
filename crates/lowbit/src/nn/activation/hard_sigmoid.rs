//! Sigmoid of three straight lines.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`HardSigmoid`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct HardSigmoidConfig {
    /// The slope.
    #[config(default = "0.2")]
    pub alpha: f64,
    /// The value at zero.
    #[config(default = "0.5")]
    pub beta: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `min(max(alpha x + beta, 0), 1)` (Courbariaux et al., arXiv 1511.00363, with `alpha` 0.5).
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::HardSigmoidConfig;
///
/// let device = Device::flex();
/// let layer = HardSigmoidConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-3.0, 0.0, 3.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 0.5, 1.0]);
/// ```
#[derive(Module, Debug)]
pub struct HardSigmoid {
    /// The slope.
    pub alpha: f64,
    /// The value at zero.
    pub beta: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl HardSigmoidConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> HardSigmoid {
        HardSigmoid {
            alpha: self.alpha,
            beta: self.beta,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for HardSigmoidConfig {
    fn describe(&self) -> Description {
        Description::new("HardSigmoid")
            .leaving_grid()
            .with_signs(Signs::NeverNegative)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl HardSigmoid {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers
            .output(ops::hard_sigmoid(input, self.alpha, self.beta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = HardSigmoidConfig::new().init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = (0.2 * x + 0.5).clamp(0.0, 1.0);
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
