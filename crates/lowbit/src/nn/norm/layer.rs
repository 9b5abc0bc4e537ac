//! Layer normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::norm::parts::{INSIDE, check_epsilon, description, normalized, scaled_and_shifted};
use crate::nn::window::at_least_one;
use crate::ops;
use crate::quantizers::{Quantizers, Slot, Taps};

/// Configuration of a [`LayerNorm`]; the fields of `burn::nn::LayerNormConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// Length of a vector, at least one.
    pub d_model: usize,
    /// Added to the variance; finite and positive.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether there is a beta.
    #[config(default = true)]
    pub bias: bool,
    /// What is quantized; the slots are `input`, `gamma`, `beta`, `mean`, `deviation`,
    /// `normalized`, `output`, `error` and `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with mean and (biased) variance of each
/// vector (Ba et al., arXiv 1607.06450). Built by [`LayerNormConfig`]; parameter paths are those of
/// `burn::nn::LayerNorm`.
///
/// Burn's one pass, unless `mean`, `deviation` or `normalized` have a quantizer; composed of tensor
/// operations then, which sum in another order. Where a deviation is rounded to zero, the normalized
/// vector is zero.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::LayerNormConfig;
///
/// let device = Device::flex();
/// let norm = LayerNormConfig::new(2).init(&device);
/// // Mean 2 and variance 1: 3 is one deviation above the mean.
/// let y = norm.forward(Tensor::<2>::from_floats([[1.0, 3.0]], &device));
/// assert!((y.into_data().try_to_vec::<f32>().unwrap()[1] - 1.0).abs() < 1e-4);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct LayerNorm {
    /// Scale, `[d_model]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[d_model]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// Added to the variance.
    pub epsilon: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl LayerNormConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> LayerNorm {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::LayerNormConfig::new(self.d_model)
            .with_epsilon(self.epsilon)
            .with_bias(self.bias)
            .init(device);
        LayerNorm {
            gamma: plain.gamma,
            beta: plain.beta,
            epsilon: self.epsilon,
            quantizers,
        }
    }
}

impl Describe for LayerNormConfig {
    fn describe(&self) -> Description {
        let mut own = vec![
            Slot::GAMMA,
            Slot::BETA,
            Slot::MEAN,
            Slot::DEVIATION,
            Slot::NORMALIZED,
        ];
        own.retain(|slot| *slot != Slot::BETA || self.bias);
        description("LayerNorm", &own).leaving_grid()
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

impl LayerNorm {
    /// Applies the layer.
    ///
    /// # Shapes
    /// `input` and result: `[..., d_model]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let quantizers = &self.quantizers;
        let input = quantizers.input(input).quantized();
        let gamma = self.gamma.val();
        let beta = self.beta.as_ref().map(|beta| beta.val());
        let inside = INSIDE.iter().any(|slot| quantizers.get(slot).is_some());
        if inside {
            let normalized = normalized(quantizers, input, D - 1, self.epsilon);
            let output = scaled_and_shifted(quantizers, normalized, gamma, beta, D - 1);
            return quantizers.output(output);
        }
        if Taps::are_attached() {
            // To be seen only: the one pass makes the result.
            normalized(quantizers, input.clone(), D - 1, self.epsilon);
        }
        let gamma = quantizers.parameter(Slot::GAMMA, gamma).quantized();
        let beta = beta.map(|beta| quantizers.parameter(Slot::BETA, beta).quantized());
        quantizers.output(ops::layer_norm(input, gamma, beta, self.epsilon))
    }
}

impl ModuleDisplay for LayerNorm {
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
            .add("bias", &self.beta.is_some())
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// Of 1, 2, 6: mean 3 and variance (4 + 1 + 9) / 3. On a grid of ones, the deviation 2.16 is 2:
    /// -1, -0.5 and 1.5, times the gamma 1.
    #[test]
    fn the_deviation_is_quantized() {
        let one =
            QuantizerConfig::Format(FormatQuantizerConfig::new("fixed(8,0)".parse().unwrap()));
        let device = Device::flex();
        let norm = LayerNormConfig::new(3)
            .with_quantization(QConfig::new().with("deviation", one))
            .init(&device);
        let y = norm.forward(Tensor::<1>::from_floats([1.0, 2.0, 6.0], &device));
        assert_eq!(
            y.into_data().try_to_vec::<f32>().unwrap(),
            [-1.0, -0.5, 1.5]
        );
    }

    /// The deviation 0.0816 of 0.1, 0.2, 0.3 is 0 on a grid of ones: nothing deviates, also backward.
    #[test]
    fn what_does_not_deviate_is_zero() {
        let one =
            QuantizerConfig::Format(FormatQuantizerConfig::new("fixed(8,0)".parse().unwrap()));
        let device = Device::flex().autodiff();
        let norm = LayerNormConfig::new(3)
            .with_quantization(QConfig::new().with("deviation", one))
            .init(&device);
        let x = Tensor::<1>::from_floats([0.1, 0.2, 0.3], &device).require_grad();
        let y = norm.forward(x.clone());
        let gradients = (y.clone() * x.clone()).sum().backward();
        assert!(y.into_data().iter::<f32>().all(|y| y == 0.0));
        let to_x = x.grad(&gradients).unwrap();
        assert!(to_x.into_data().iter::<f32>().all(|g| g == 0.0));
    }

    #[test]
    fn without_beta_there_is_no_slot_for_it() {
        let description = LayerNormConfig::new(2).with_bias(false).describe();
        assert!(description.has_slot("gamma") && !description.has_slot("beta"));
    }
}
