//! Normalization by the root mean square.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{DType, Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::norm::parts::{INSIDE, check_epsilon, description, divisor, scaled_and_shifted};
use crate::nn::window::at_least_one;
use crate::ops;
use crate::quantizers::{Quantizers, Slot, Taps};

/// Configuration of an [`RmsNorm`]; the fields of `burn::nn::RmsNormConfig`, and what is quantized.
#[derive(Config, Debug)]
pub struct RmsNormConfig {
    /// Length of a vector, at least one.
    pub d_model: usize,
    /// Added to the mean square; finite and positive.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// What is quantized; the slots are `input`, `gamma`, `deviation`, `normalized`, `output`,
    /// `error` and `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x / sqrt(mean(x^2) + epsilon) * gamma` for each vector (Zhang and Sennrich, arXiv 1910.07467);
/// the root is the slot `deviation`; where it is rounded to zero, the result is zero. Built by
/// [`RmsNormConfig`]; parameter paths are those of `burn::nn::RmsNorm`. One pass, unless something inside of it is
/// quantized.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::RmsNormConfig;
///
/// let device = Device::flex();
/// let norm = RmsNormConfig::new(2).init(&device);
/// // The root mean square of 1 and 7 is 5.
/// let y = norm.forward(Tensor::<2>::from_floats([[1.0, 7.0]], &device));
/// assert!((y.into_data().try_to_vec::<f32>().unwrap()[1] - 1.4).abs() < 1e-5);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct RmsNorm {
    /// Scale, `[d_model]`.
    pub gamma: Param<Tensor<1>>,
    /// Added to the mean square.
    pub epsilon: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl RmsNormConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> RmsNorm {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::RmsNormConfig::new(self.d_model)
            .with_epsilon(self.epsilon)
            .init(device);
        RmsNorm {
            gamma: plain.gamma,
            epsilon: plain.epsilon,
            quantizers,
        }
    }
}

impl Describe for RmsNormConfig {
    fn describe(&self) -> Description {
        let own = [Slot::GAMMA, Slot::DEVIATION, Slot::NORMALIZED];
        description("RmsNorm", &own).leaving_grid()
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        at_least_one("d_model", &[self.d_model])?;
        check_epsilon(self.epsilon)
    }
}

impl RmsNorm {
    /// Applies the layer.
    ///
    /// # Shapes
    /// `input` and result: `[..., d_model]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let quantizers = &self.quantizers;
        let x = quantizers.input(input).quantized();
        let gamma = self.gamma.val();
        if INSIDE.iter().any(|slot| quantizers.get(slot).is_some()) {
            let normalized = self.normalized(x);
            let output = scaled_and_shifted(quantizers, normalized, gamma, None, D - 1);
            return quantizers.output(output);
        }
        if Taps::are_attached() {
            // To be seen only: the one pass makes the result.
            self.normalized(x.clone());
        }
        let gamma = quantizers.parameter(Slot::GAMMA, gamma).quantized();
        quantizers.output(ops::rms_norm(x, gamma, self.epsilon))
    }

    /// Over the root, both as their slots quantize them.
    fn normalized<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let square = x.clone().cast(DType::F32).square().mean_dim(D - 1);
        let root = divisor(&self.quantizers, (square + self.epsilon).sqrt());
        let normalized = x / root.cast(dtype);
        let normalized = self.quantizers.activation(Slot::NORMALIZED, normalized);
        normalized.quantized()
    }
}

impl ModuleDisplay for RmsNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_model] = self.gamma.dims();
        content
            .add("d_model", &d_model)
            .add("epsilon", &self.epsilon)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// The root mean square of 1 and 7 is 5; on a grid of fours it is 4.
    #[test]
    fn the_root_is_quantized() {
        let fours = FormatQuantizerConfig::new("fixed(8,-2)".parse().unwrap());
        let config = QConfig::new().with("deviation", QuantizerConfig::Format(fours));
        let device = Device::flex();
        let norm = RmsNormConfig::new(2)
            .with_quantization(config)
            .init(&device);
        let y = norm.forward(Tensor::<1>::from_floats([1.0, 7.0], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.25, 1.75]);
    }
}
