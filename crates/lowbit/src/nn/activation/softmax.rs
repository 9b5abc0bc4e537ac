//! Softmax.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Softmax`].
#[derive(Config, Debug)]
pub struct SoftmaxConfig {
    /// The dimension along which the results add up to 1.
    pub dim: usize,
    /// Whether 1 is added to the denominator, so that all results can be near 0.
    #[config(default = false)]
    pub quiet: bool,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `e^x_i / sum_j e^x_j` along a dimension; quiet, `e^x_i / (1 + sum_j e^x_j)`. Composed of Burn's
/// functions; Burn has no layer for it.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::SoftmaxConfig;
///
/// let device = Device::flex();
/// let layer = SoftmaxConfig::new(0).init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([1.0, 1.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.5, 0.5]);
/// ```
#[derive(Module, Debug)]
pub struct Softmax {
    /// The dimension along which the results add up to 1.
    pub dim: usize,
    /// Whether 1 is added to the denominator.
    pub quiet: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl SoftmaxConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Softmax {
        Softmax {
            dim: self.dim,
            quiet: self.quiet,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for SoftmaxConfig {
    fn describe(&self) -> Description {
        Description::new("Softmax")
            .leaving_grid()
            .with_signs(Signs::NeverNegative)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Softmax {
    /// Applies the layer; any shape that has the dimension.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let output = match self.quiet {
            true => ops::quiet_softmax(input, self.dim),
            false => ops::softmax(input, self.dim),
        };
        self.quantizers.output(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// e / (e + 1) = 0.7310586, and with the 1 of the quiet one e / (e + 2) = 0.5761169.
    #[test]
    fn two_numbers_by_hand() {
        let device = Device::flex();
        for (quiet, expected) in [(false, 0.731_058_6), (true, 0.576_116_9)] {
            let layer = SoftmaxConfig::new(1).with_quiet(quiet).init(&device);
            let y = layer.forward(Tensor::<2>::from_floats([[1.0, 0.0]], &device));
            let first: f32 = y.into_data().iter::<f32>().next().unwrap();
            assert!((first - expected).abs() < 1e-6, "{first}");
        }
    }
}
