//! Logistic function.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::posit::{PositActivation, PositFunction};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Sigmoid`].
#[derive(Config, Debug)]
pub struct SigmoidConfig {
    /// Bits of the posit (8 or 16, without exponent bits) that computes the function; the exact
    /// function unless given. See [`ops::posit_activation`](crate::ops::posit_activation()).
    #[config(default = "None")]
    pub posit_bits: Option<u8>,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `1 / (1 + e^-x)`, or about that, by the bits of a posit.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::SigmoidConfig;
///
/// let device = Device::flex();
/// let layer = SigmoidConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([0.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.5]);
/// ```
#[derive(Module, Debug)]
pub struct Sigmoid {
    #[module(skip)]
    posit: Option<PositActivation>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl SigmoidConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Sigmoid {
        let quantizers = self.init_quantizers(device);
        Sigmoid {
            posit: self.posit().unwrap_or_else(|error| panic!("{error}")),
            quantizers,
        }
    }

    /// The posit's function, if one computes it.
    fn posit(&self) -> Result<Option<PositActivation>, Error> {
        let function = PositFunction::Sigmoid;
        let posit = |bits| {
            let built = PositActivation::new(function, bits);
            built.map_err(|error| Error::config("posit_bits", error.to_string()))
        };
        self.posit_bits.map(posit).transpose()
    }
}

impl Describe for SigmoidConfig {
    fn describe(&self) -> Description {
        Description::new("Sigmoid")
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
        self.posit().map(|_| ())
    }
}

impl Sigmoid {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let output = match self.posit {
            Some(function) => ops::posit_activation(input, function),
            None => ops::sigmoid(input),
        };
        self.quantizers.output(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Burn's function, and at 3 the value of its definition in `f64`.
    #[test]
    fn without_a_posit_it_is_the_function() {
        let device = Device::flex();
        let layer = SigmoidConfig::new().init(&device);
        let y = layer.forward(Tensor::<1>::from_floats([3.0], &device));
        let exact = 1.0 / (1.0 + (-3f64).exp());
        assert!((f64::from(y.into_scalar::<f32>()) - exact).abs() < 1e-6);
    }

    #[test]
    fn only_posits_of_8_and_16_bits_have_it() {
        let config = SigmoidConfig::new().with_posit_bits(Some(9));
        let refused = config.check().unwrap_err().to_string();
        assert!(refused.starts_with("Sigmoid.posit_bits: "), "{refused}");
        assert!(refused.contains("8 or 16"), "{refused}");
        assert!(config.with_posit_bits(Some(8)).check().is_ok());
    }
}
