//! Linear layer.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Channels, Quantizers, Sums};

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
        Description::summing("Linear", weight, Sums::new(self.d_input, 1), self.bias)
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
        let [d_input, _] = self.weight.dims();
        let output = self.quantizers.accumulate(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            self.bias
                .as_ref()
                .map(|bias| self.quantizers.bias(bias.val())),
            Sums::new(d_input, D - 1),
            ops::linear,
        );
        self.quantizers.output(output)
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
