//! Clamp to an interval.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Hardtanh`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct HardtanhConfig {
    /// The least value.
    #[config(default = "-1.0")]
    pub min_val: f64,
    /// The greatest value, not below the least.
    #[config(default = "1.0")]
    pub max_val: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `min(max(x, min_val), max_val)`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::HardtanhConfig;
///
/// let device = Device::flex();
/// let layer = HardtanhConfig::new().with_max_val(2.0).init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-3.0, 1.5, 4.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-1.0, 1.5, 2.0]);
/// ```
#[derive(Module, Debug)]
pub struct Hardtanh {
    /// The least value.
    pub min_val: f64,
    /// The greatest value.
    pub max_val: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl HardtanhConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Hardtanh {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::activation::HardtanhConfig::new()
            .with_min_val(self.min_val)
            .with_max_val(self.max_val)
            .init();
        Hardtanh {
            min_val: plain.min_val,
            max_val: plain.max_val,
            quantizers,
        }
    }
}

impl Describe for HardtanhConfig {
    fn describe(&self) -> Description {
        let signs = match (self.min_val < 0.0, self.max_val < 0.0) {
            (false, _) => Signs::NeverNegative,
            (true, false) => Signs::OfInputs,
            (true, true) => Signs::Any,
        };
        Description::new("Hardtanh").with_signs(signs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        let (least, greatest) = (self.min_val, self.max_val);
        if least <= greatest && least.is_finite() && greatest.is_finite() {
            return Ok(());
        }
        let message =
            format!("is {least} with max_val {greatest}, expected finite and not above it");
        Err(Error::config("min_val", message))
    }
}

impl Hardtanh {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers
            .output(ops::hardtanh(input, self.min_val, self.max_val))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// On a grid of quarters with a sign, 0.3 is 0.25 and -0.3 is -0.25, before anything else.
    #[test]
    fn what_it_reads_is_quantized() {
        let input =
            QuantizerConfig::Format(FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap()));
        let config = QConfig::new().with("input", input);
        let device = Device::flex();
        let layer = HardtanhConfig::new()
            .with_quantization(config)
            .with_min_val(-0.125)
            .init(&device);
        let y = layer.forward(Tensor::<1>::from_floats([0.3, -0.3], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.25, -0.125]);
    }

    #[test]
    fn limits_the_wrong_way_round_are_refused() {
        let config = HardtanhConfig::new().with_min_val(2.0);
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "Hardtanh.min_val: is 2 with max_val 1, expected finite and not above it"
        );
    }
}
