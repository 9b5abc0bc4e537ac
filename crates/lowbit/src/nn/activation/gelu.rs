//! Gaussian error linear unit.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Gelu`]; which function it is, and what is quantized.
#[derive(Config, Debug)]
pub struct GeluConfig {
    /// Whether the function is `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` instead.
    #[config(default = false)]
    pub approximate: bool,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x / 2 (1 + erf(x / sqrt(2)))`, or its approximation by the hyperbolic tangent (Hendrycks and Gimpel,
/// arXiv 1606.08415). Composed of Burn's functions.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::GeluConfig;
///
/// let device = Device::flex();
/// let layer = GeluConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([0.0, 100.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 100.0]);
/// ```
#[derive(Module, Debug)]
pub struct Gelu {
    /// Whether the function is `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` instead.
    pub approximate: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl GeluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Gelu {
        Gelu {
            approximate: self.approximate,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for GeluConfig {
    fn describe(&self) -> Description {
        Description::new("Gelu")
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

impl Gelu {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let output = match self.approximate {
            true => ops::gelu_approximate(input),
            false => ops::gelu(input),
        };
        self.quantizers.output(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the normal distribution, 0.841344746 lies below 1 (Abramowitz and Stegun, table 26.1); the
    /// approximation is within a thousandth.
    #[test]
    fn one_is_weighted_by_what_lies_below_it() {
        let device = Device::flex();
        let one = || Tensor::<1>::from_floats([1.0], &device);
        let off = |config: GeluConfig| {
            let y = config.init(&device).forward(one()).into_scalar::<f32>();
            (f64::from(y) - 0.841_344_746).abs()
        };
        assert!(off(GeluConfig::new()) < 1e-6);
        let about = off(GeluConfig::new().with_approximate(true));
        assert!((1e-6..1e-3).contains(&about), "{about}");
    }
}
