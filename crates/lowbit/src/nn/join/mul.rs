//! Product of two branches.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Mul`].
#[derive(Config, Debug)]
pub struct MulConfig {
    /// What is quantized; `input` quantizes both branches with one quantizer, `output` the product.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The product of two tensors of one shape, element by element, such as a feature and its gate.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::MulConfig;
///
/// let device = Device::flex();
/// let [left, right] = [1.0, 3.0].map(|x| Tensor::<1>::from_floats([x], &device));
/// let y = MulConfig::new().init(&device).forward(left, right);
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [3.0]);
/// ```
#[derive(Module, Debug)]
pub struct Mul {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl MulConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Mul {
        Mul {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for MulConfig {
    fn describe(&self) -> Description {
        Description::new("Mul")
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

impl Mul {
    /// Applies the layer; any shape, the same for all three.
    pub fn forward<const D: usize>(&self, left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
        let product = ops::mul(self.quantizers.input(left), self.quantizers.input(right));
        self.quantizers.output(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// Both branches go through one quantizer: on a grid of quarters, 0.3 and 0.3 are 0.25 each.
    #[test]
    fn branches_share_a_quantizer() {
        let input =
            QuantizerConfig::Format(FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap()));
        let config = QConfig::new().with("input", input);
        let device = Device::flex();
        let layer = MulConfig::new().with_quantization(config).init(&device);
        let x = Tensor::<1>::from_floats([0.3], &device);
        let y = layer.forward(x.clone(), x);
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0625]);
    }
}
