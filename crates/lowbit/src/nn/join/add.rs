//! Addition of two branches.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of an [`Add`].
#[derive(Config, Debug)]
pub struct AddConfig {
    /// What is quantized; `input` quantizes both branches with one quantizer, `output` the sum.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The sum of two tensors of one shape, such as a residual and its shortcut.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::AddConfig;
///
/// let device = Device::flex();
/// let [left, right] = [1.0, 3.0].map(|x| Tensor::<1>::from_floats([x], &device));
/// let y = AddConfig::new().init(&device).forward(left, right);
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [4.0]);
/// ```
#[derive(Module, Debug)]
pub struct Add {
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl AddConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Add {
        Add {
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for AddConfig {
    fn describe(&self) -> Description {
        Description::new("Add")
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

impl Add {
    /// Applies the layer; any shape, the same for all three.
    pub fn forward<const D: usize>(&self, left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
        let sum = ops::add(self.quantizers.input(left), self.quantizers.input(right));
        self.quantizers.output(sum)
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
        let layer = AddConfig::new().with_quantization(config).init(&device);
        let x = Tensor::<1>::from_floats([0.3], &device);
        let y = layer.forward(x.clone(), x);
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.5]);
    }
}
