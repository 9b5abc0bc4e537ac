//! Average pooling of sequences to a given size.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::at_least_one;
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`AdaptiveAvgPool1d`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct AdaptiveAvgPool1dConfig {
    /// Length of the result.
    pub output_size: usize,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The mean over windows that divide the input into the given length. Built by [`AdaptiveAvgPool1dConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::AdaptiveAvgPool1dConfig;
///
/// let device = Device::flex();
/// let pool = AdaptiveAvgPool1dConfig::new(2).init(&device);
/// let x = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &device).reshape([1, 1, 4]);
/// assert_eq!(pool.forward(x).into_data().try_to_vec::<f32>().unwrap(), [1.5, 3.5]);
/// ```
#[derive(Module, Debug)]
pub struct AdaptiveAvgPool1d {
    /// Length of the result.
    pub output_size: usize,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl AdaptiveAvgPool1dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> AdaptiveAvgPool1d {
        AdaptiveAvgPool1d {
            output_size: self.output_size,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for AdaptiveAvgPool1dConfig {
    fn describe(&self) -> Description {
        Description::new("AdaptiveAvgPool1d")
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
        at_least_one("output_size", &[self.output_size])
    }
}

impl AdaptiveAvgPool1d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, length]`
    /// - result: `[batch, channels, length_out]`
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let input = self.quantizers.input(input).quantized();
        let output = ops::adaptive_avg_pool1d(input, self.output_size);
        self.quantizers.output(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of a size that does not divide the input overlap: of three numbers, the two means
    /// are of the first two and of the last two.
    #[test]
    fn windows_overlap_where_they_must() {
        let device = Device::flex();
        let pool = AdaptiveAvgPool1dConfig::new(2).init(&device);
        let x = Tensor::<1>::from_floats([1.0, 3.0, 7.0], &device);
        let y = pool.forward(x.reshape([1, 1, 3]));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [2.0, 5.0]);
    }

    #[test]
    fn a_result_without_size_is_refused() {
        assert!(AdaptiveAvgPool1dConfig::new(0).check().is_err());
    }
}
