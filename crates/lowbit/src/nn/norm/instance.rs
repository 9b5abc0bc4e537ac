//! Instance normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::norm::group::{normalize_groups, of_groups};
use crate::nn::norm::parts::check_epsilon;
use crate::nn::window::at_least_one;
use crate::quantizers::Quantizers;

/// Configuration of an [`InstanceNorm`]; the fields of `burn::nn::InstanceNormConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct InstanceNormConfig {
    /// Channels, at least one.
    pub num_channels: usize,
    /// Added to the variance; finite and positive.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether channels are scaled and shifted.
    #[config(default = true)]
    pub affine: bool,
    /// What is quantized; the slots are `input`, `gamma`, `beta`, `mean`, `deviation`,
    /// `normalized`, `output`, `error` and `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with mean and (biased) variance of each
/// channel of each example (Ulyanov et al., arXiv 1607.08022): a
/// [`GroupNorm`](crate::nn::GroupNorm) with a group per channel. Built by [`InstanceNormConfig`];
/// parameter paths are those of `burn::nn::InstanceNorm`. Composed of tensor operations.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::InstanceNormConfig;
///
/// let device = Device::flex();
/// let norm = InstanceNormConfig::new(1).init(&device);
/// // Mean 2 and variance 1: 3 is one deviation above the mean.
/// let y = norm.forward(Tensor::<3>::from_floats([[[1.0, 3.0]]], &device));
/// assert!((y.into_data().try_to_vec::<f32>().unwrap()[1] - 1.0).abs() < 1e-4);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct InstanceNorm {
    /// Scale, `[num_channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// Shift, `[num_channels]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// Channels.
    pub num_channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether channels are scaled and shifted.
    pub affine: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl InstanceNormConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> InstanceNorm {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::InstanceNormConfig::new(self.num_channels)
            .with_epsilon(self.epsilon)
            .with_affine(self.affine)
            .init(device);
        InstanceNorm {
            gamma: plain.gamma,
            beta: plain.beta,
            num_channels: plain.num_channels,
            epsilon: plain.epsilon,
            affine: plain.affine,
            quantizers,
        }
    }
}

impl Describe for InstanceNormConfig {
    fn describe(&self) -> Description {
        of_groups("InstanceNorm", self.affine)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        at_least_one("num_channels", &[self.num_channels])?;
        check_epsilon(self.epsilon)
    }
}

impl InstanceNorm {
    /// Applies the layer.
    ///
    /// # Shapes
    /// `input` and result: `[batch, num_channels, ...]`
    ///
    /// # Panics
    /// If the channels are others.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let affine = [&self.gamma, &self.beta].map(|p| p.as_ref().map(|p| p.val()));
        let channels = [self.num_channels; 2];
        normalize_groups(&self.quantizers, input, affine, channels, self.epsilon)
    }
}

impl ModuleDisplay for InstanceNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_channels", &self.num_channels)
            .add("epsilon", &self.epsilon)
            .add("affine", &self.affine)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the input has 3 channels, expected 2")]
    fn other_channels_are_refused() {
        let device = Device::flex();
        let norm = InstanceNormConfig::new(2).init(&device);
        norm.forward(Tensor::<3>::zeros([1, 3, 4], &device));
    }
}
