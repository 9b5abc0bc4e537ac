//! Numbers are moved towards zero.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`SoftShrink`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct SoftShrinkConfig {
    /// How far, and what is near.
    #[config(default = "0.5")]
    pub lambda: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x - lambda` where `x > lambda`, `x + lambda` where `x < -lambda`, 0 elsewhere.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::SoftShrinkConfig;
///
/// let device = Device::flex();
/// let layer = SoftShrinkConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-1.0, 0.25, 0.75], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-0.5, 0.0, 0.25]);
/// ```
#[derive(Module, Debug)]
pub struct SoftShrink {
    /// How far, and what is near.
    pub lambda: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl SoftShrinkConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> SoftShrink {
        SoftShrink {
            lambda: self.lambda,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for SoftShrinkConfig {
    fn describe(&self) -> Description {
        Description::new("SoftShrink")
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

impl SoftShrink {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::soft_shrink(input, self.lambda))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = SoftShrinkConfig::new().init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = if x.abs() > 0.5 {
                x - 0.5 * x.signum()
            } else {
                0.0
            };
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
