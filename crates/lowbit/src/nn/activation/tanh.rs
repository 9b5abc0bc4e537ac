//! Hyperbolic tangent.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::posit::{PositActivation, PositFunction};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Tanh`].
#[derive(Config, Debug)]
pub struct TanhConfig {
    /// Bits of the posit (8 or 16, without exponent bits) that computes the function; the exact
    /// function unless given. See [`ops::posit_activation`](crate::ops::posit_activation()).
    #[config(default = "None")]
    pub posit_bits: Option<u8>,
    /// Whether the posit's flat ends are moved nearer to the true function.
    #[config(default = false)]
    pub enhanced: bool,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `tanh(x)`, or about that, by the bits of a posit.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::TanhConfig;
///
/// let device = Device::flex();
/// let layer = TanhConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([0.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0]);
/// ```
#[derive(Module, Debug)]
pub struct Tanh {
    #[module(skip)]
    posit: Option<PositActivation>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl TanhConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Tanh {
        let quantizers = self.init_quantizers(device);
        Tanh {
            posit: self.posit().unwrap_or_else(|error| panic!("{error}")),
            quantizers,
        }
    }

    /// The posit's function, if one computes it.
    fn posit(&self) -> Result<Option<PositActivation>, Error> {
        let function = if self.enhanced {
            PositFunction::TanhEnhanced
        } else {
            PositFunction::Tanh
        };
        let posit = |bits| {
            let built = PositActivation::new(function, bits);
            built.map_err(|error| Error::config("posit_bits", error.to_string()))
        };
        self.posit_bits.map(posit).transpose()
    }
}

impl Describe for TanhConfig {
    fn describe(&self) -> Description {
        Description::new("Tanh")
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
        self.posit().map(|_| ())
    }
}

impl Tanh {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let output = match self.posit {
            Some(function) => ops::posit_activation(input, function),
            None => ops::tanh(input),
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
        let layer = TanhConfig::new().init(&device);
        let y = layer.forward(Tensor::<1>::from_floats([3.0], &device));
        let exact = 3f64.tanh();
        assert!((f64::from(y.into_scalar::<f32>()) - exact).abs() < 1e-6);
    }

    #[test]
    fn only_posits_of_8_and_16_bits_have_it() {
        let config = TanhConfig::new().with_posit_bits(Some(9));
        let refused = config.check().unwrap_err().to_string();
        assert!(refused.starts_with("Tanh.posit_bits: "), "{refused}");
        assert!(refused.contains("8 or 16"), "{refused}");
        assert!(config.with_posit_bits(Some(8)).check().is_ok());
    }
}
