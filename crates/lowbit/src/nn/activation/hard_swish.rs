//! The sigmoid linear unit of three straight lines.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`HardSwish`]; what is quantized.
#[derive(Config, Debug)]
pub struct HardSwishConfig {
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x min(max(x / 6 + 1 / 2, 0), 1)` (Howard et al., arXiv 1905.02244). Composed of Burn's functions.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::HardSwishConfig;
///
/// let device = Device::flex();
/// let layer = HardSwishConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-3.0, 3.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 3.0]);
/// ```
#[derive(Module, Debug)]
pub struct HardSwish {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl HardSwishConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> HardSwish {
        HardSwish {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for HardSwishConfig {
    fn describe(&self) -> Description {
        Description::new("HardSwish")
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

impl HardSwish {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::hard_swish(input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = HardSwishConfig::new().init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = x * (x / 6.0 + 0.5).clamp(0.0, 1.0);
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
