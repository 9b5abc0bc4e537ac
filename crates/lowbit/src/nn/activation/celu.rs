//! Exponential linear unit with a continuous slope.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Celu`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct CeluConfig {
    /// Where the function goes to far below zero: `-alpha`. Finite and not zero.
    #[config(default = "1.0")]
    pub alpha: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x` where `x > 0`, `alpha (e^(x / alpha) - 1)` elsewhere (Barron, arXiv 1704.07483). Composed of Burn's
/// functions.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::CeluConfig;
///
/// let device = Device::flex();
/// let layer = CeluConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([0.0, 2.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 2.0]);
/// ```
#[derive(Module, Debug)]
pub struct Celu {
    /// Where the function goes to far below zero: `-alpha`. Finite and not zero.
    pub alpha: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl CeluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Celu {
        Celu {
            alpha: self.alpha,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for CeluConfig {
    fn describe(&self) -> Description {
        Description::new("Celu")
            .leaving_grid()
            .with_signs(Signs::OfInputs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        if self.alpha.is_finite() && self.alpha != 0.0 {
            return Ok(());
        }
        let message = format!("is {}, expected finite and not zero", self.alpha);
        Err(Error::config("alpha", message))
    }
}

impl Celu {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::celu(input, self.alpha))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = CeluConfig::new().with_alpha(2.0).init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = if x > 0.0 {
                x
            } else {
                2.0 * ((x / 2.0).exp() - 1.0)
            };
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }

    #[test]
    fn a_field_out_of_range_is_refused() {
        let refused = CeluConfig::new().with_alpha(0.0).check();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "Celu.alpha: is 0, expected finite and not zero"
        );
    }
}
