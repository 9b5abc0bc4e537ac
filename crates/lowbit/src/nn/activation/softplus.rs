//! A smooth rectifier.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Softplus`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct SoftplusConfig {
    /// How sharp the bend is; finite and positive.
    #[config(default = "1.0")]
    pub beta: f64,
    /// From where on it is the identity.
    #[config(default = "20.0")]
    pub threshold: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `ln(1 + e^(beta x)) / beta`, and `x` where `beta x > threshold`. Composed of Burn's functions.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::SoftplusConfig;
///
/// let device = Device::flex();
/// let layer = SoftplusConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([100.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [100.0]);
/// ```
#[derive(Module, Debug)]
pub struct Softplus {
    /// How sharp the bend is; finite and positive.
    pub beta: f64,
    /// From where on it is the identity.
    pub threshold: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl SoftplusConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Softplus {
        Softplus {
            beta: self.beta,
            threshold: self.threshold,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for SoftplusConfig {
    fn describe(&self) -> Description {
        Description::new("Softplus")
            .leaving_grid()
            .with_signs(Signs::NeverNegative)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        if self.beta.is_finite() && self.beta > 0.0 {
            return Ok(());
        }
        let message = format!("is {}, expected finite and positive", self.beta);
        Err(Error::config("beta", message))
    }
}

impl Softplus {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers
            .output(ops::softplus(input, self.beta, self.threshold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_in_f64() {
        let device = Device::flex();
        let layer = SoftplusConfig::new().with_beta(2.0).init(&device);
        let inputs: [f32; 3] = [-2.0, -0.5, 1.5];
        let y = layer.forward(Tensor::<1>::from_floats(inputs, &device));
        for (x, y) in inputs.into_iter().zip(y.into_data().iter::<f64>()) {
            let x = f64::from(x);
            let exact: f64 = (1.0 + (2.0 * x).exp()).ln() / 2.0;
            assert!((y - exact).abs() < 1e-6, "{x}: {y}, {exact}");
        }
    }

    #[test]
    fn a_field_out_of_range_is_refused() {
        let refused = SoftplusConfig::new().with_beta(0.0).check();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "Softplus.beta: is 0, expected finite and positive"
        );
    }
}
