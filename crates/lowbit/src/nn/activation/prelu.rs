//! Rectifier with learned slopes below zero.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::at_least_one;
use crate::ops;
use crate::quantizers::{Quantizers, Signs, Slot};

/// Configuration of a [`PRelu`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct PReluConfig {
    /// How many slopes: one, or as many as channels.
    #[config(default = "1")]
    pub num_parameters: usize,
    /// The slopes at the start.
    #[config(default = "0.25")]
    pub alpha: f64,
    /// What is quantized; the slots are `input`, `alpha`, `output`, `error` and `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x` where `x >= 0`, `alpha x` below (He et al., arXiv 1502.01852). Built by [`PReluConfig`];
/// parameter paths are those of `burn::nn::PRelu`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::PReluConfig;
///
/// let device = Device::flex();
/// let layer = PReluConfig::new().init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-4.0, 2.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-1.0, 2.0]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct PRelu {
    /// The slopes below zero, `[num_parameters]`.
    pub alpha: Param<Tensor<1>>,
    /// The slopes at the start.
    pub alpha_value: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl PReluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> PRelu {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::PReluConfig::new()
            .with_num_parameters(self.num_parameters)
            .with_alpha(self.alpha)
            .init(device);
        PRelu {
            alpha: plain.alpha,
            alpha_value: plain.alpha_value,
            quantizers,
        }
    }
}

impl Describe for PReluConfig {
    fn describe(&self) -> Description {
        Description {
            slots: vec![
                Slot::INPUT,
                Slot::OUTPUT,
                Slot::ALPHA,
                Slot::ERROR,
                Slot::GRADIENT,
            ],
            ..Description::new("PRelu")
                .leaving_grid()
                .with_signs(Signs::OfInputs)
        }
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        at_least_one("num_parameters", &[self.num_parameters])
    }
}

impl PRelu {
    /// Applies the layer.
    ///
    /// # Shapes
    /// `input` and result: `[batch, num_parameters, ...]`, or any with one slope
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let alpha = self.quantizers.parameter(Slot::ALPHA, self.alpha.val());
        self.quantizers.output(ops::prelu(input, alpha))
    }
}

impl ModuleDisplay for PRelu {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [num_parameters] = self.alpha.dims();
        content
            .add("num_parameters", &num_parameters)
            .add("alpha_value", &self.alpha_value)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// On a grid of quarters the slope 0.3 is 0.25: -2 becomes -0.5.
    #[test]
    fn the_slope_is_quantized() {
        let alpha =
            QuantizerConfig::Format(FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap()));
        let device = Device::flex();
        let layer = PReluConfig::new()
            .with_alpha(0.3)
            .with_quantization(QConfig::new().with("alpha", alpha))
            .init(&device);
        let y = layer.forward(Tensor::<1>::from_floats([-2.0, 3.0], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-0.5, 3.0]);
    }
}
