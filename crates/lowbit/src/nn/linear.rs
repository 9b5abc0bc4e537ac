//! Linear layer.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Channels, Parameters, Quantizers, Sums};

/// Configuration of a [`Linear`]; the fields of `burn::nn::LinearConfig` (row layout), and what is
/// quantized.
#[derive(Config, Debug)]
pub struct LinearConfig {
    /// Features in.
    pub d_input: usize,
    /// Features out.
    pub d_output: usize,
    /// Whether a bias is added.
    #[config(default = true)]
    pub bias: bool,
    /// How weight and bias start; as Burn's, uniform within `sqrt(1 / d_input)`.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
    /// What is quantized.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `y = x W + b` with quantized input, weight, bias, sum and output. Built by [`LinearConfig`];
/// parameter paths are those of `burn::nn::Linear`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::{config::QPlan, nn::LinearConfig};
///
/// let device = Device::flex();
/// let linear = LinearConfig::new(4, 2)
///     .with_quantization(QPlan::tqt(4, 8).default)
///     .init(&device);
/// let y = linear.forward(Tensor::<2>::zeros([3, 4], &device));
/// assert_eq!(y.dims(), [3, 2]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Linear {
    /// `[d_input, d_output]`
    pub weight: Param<Tensor<2>>,
    /// `[d_output]`
    pub bias: Option<Param<Tensor<1>>>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl LinearConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Linear {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::LinearConfig::new(self.d_input, self.d_output)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        Linear {
            weight: plain.weight,
            bias: plain.bias,
            quantizers,
        }
    }
}

impl Describe for LinearConfig {
    fn describe(&self) -> Description {
        let weight = Channels {
            axis: 1,
            count: self.d_output,
        };
        let sums = Sums::new(self.d_input, 1);
        Description::summing("Linear", weight, sums, self.bias).accumulating()
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Linear {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[..., d_input]`
    /// - result: `[..., d_output]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.quantizers.product(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            self.bias.as_ref().map(|bias| bias.val()),
            self.sums(D - 1),
            |operands| ops::linear_of(operands, self.quantizers.sums()),
        )
    }

    /// Weight and bias, for [`forward_with`](Self::forward_with).
    pub(crate) fn parameters(&self) -> Parameters<2> {
        let bias = self.bias.as_ref().map(|bias| bias.val());
        self.quantizers.parameters(self.weight.val(), bias)
    }

    /// The same as [`forward`](Self::forward), for one of several inputs of a pass.
    pub(crate) fn forward_with<const D: usize>(
        &self,
        input: Tensor<D>,
        parameters: &Parameters<2>,
    ) -> Tensor<D> {
        self.quantizers.product_with(
            self.quantizers.input(input),
            parameters,
            self.sums(D - 1),
            |operands| ops::linear_of(operands, self.quantizers.sums()),
        )
    }

    fn sums(&self, axis: usize) -> Sums {
        let [d_input, _] = self.weight.dims();
        Sums::new(d_input, axis)
    }
}

impl ModuleDisplay for Linear {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_input, d_output] = self.weight.dims();
        content
            .add("d_input", &d_input)
            .add("d_output", &d_output)
            .add("bias", &self.bias.is_some())
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{QuantizerConfig, TrainedThresholdConfig};

    #[test]
    fn two_by_two_by_hand() {
        let device = Device::flex();
        let mut linear = LinearConfig::new(2, 2).init(&device);
        let weight = Tensor::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
        linear.weight = Param::from_tensor(weight);
        linear.bias = Some(Param::from_tensor(Tensor::from_floats(
            [0.5, -0.5],
            &device,
        )));
        // 1 + 2 * 3 + 0.5 and 2 + 2 * 4 - 0.5.
        let y = linear.forward(Tensor::<1>::from_floats([1.0, 2.0], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [7.5, 9.5]);
    }

    #[test]
    #[should_panic(expected = "Linear.weight: bits is 77, expected 2 to 24 (tqt)")]
    fn a_width_out_of_range_is_refused_where_it_is_given() {
        let quantization = QConfig::new().with(
            "weight",
            QuantizerConfig::Tqt(TrainedThresholdConfig::new(77)),
        );
        LinearConfig::new(2, 2)
            .with_quantization(quantization)
            .init(&Device::flex());
    }
}
