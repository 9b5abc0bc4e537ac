//! Numbers near zero are zero, the others are moved towards it.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Shrink`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct ShrinkConfig {
    /// What is near.
    #[config(default = "0.5")]
    pub lambda: f64,
    /// How far the others are moved.
    #[config(default = "0.5")]
    pub bias: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x - bias` where `x > lambda`, `x + bias` where `x < -lambda`, 0 elsewhere.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::ShrinkConfig;
///
/// let device = Device::flex();
/// let layer = ShrinkConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-1.0, 0.25, 0.75], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-0.5, 0.0, 0.25]);
/// ```
#[derive(Module, Debug)]
pub struct Shrink {
    /// What is near.
    pub lambda: f64,
    /// How far the others are moved.
    pub bias: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl ShrinkConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Shrink {
        Shrink {
            lambda: self.lambda,
            bias: self.bias,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for ShrinkConfig {
    fn describe(&self) -> Description {
        let signs = match self.bias > self.lambda {
            true => Signs::Any,
            false => Signs::OfInputs,
        };
        Description::new("Shrink").leaving_grid().with_signs(signs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Shrink {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers
            .output(ops::shrink(input, self.lambda, self.bias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = ShrinkConfig::new().with_bias(0.25).init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = if x.abs() > 0.5 {
                x - 0.25 * x.signum()
            } else {
                0.0
            };
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }
}
