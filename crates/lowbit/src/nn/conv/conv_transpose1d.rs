//! Transposed one-dimensional convolution.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::ops::ConvTransposeOptions;
use burn::tensor::{Device, Tensor};

use crate::config::QConfig;
use crate::ops;
use crate::quantizers::{Channels, Quantizers, Sums};

/// Configuration of a [`ConvTranspose1d`]; the fields of `burn::nn::conv::ConvTranspose1dConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct ConvTranspose1dConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Length of the kernel.
    pub kernel_size: usize,
    /// Step of the kernel over the output.
    #[config(default = "1")]
    pub stride: usize,
    /// Spacing between kernel elements.
    #[config(default = "1")]
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    #[config(default = "1")]
    pub groups: usize,
    /// What is cut off all around the output.
    #[config(default = "0")]
    pub padding: usize,
    /// What is added to the output's end.
    #[config(default = "0")]
    pub padding_out: usize,
    /// Whether a bias is added.
    #[config(default = true)]
    pub bias: bool,
    /// How weight and bias start; as Burn's, uniform within `sqrt(1 / fan_in)`.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
    /// What is quantized.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Transposed convolution with quantized input, weight, bias, sum and output. Built by
/// [`ConvTranspose1dConfig`]; parameter paths are those of `burn::nn::conv::ConvTranspose1d`.
///
/// A weight's channels are its second dimension: with `per_channel`, output channels that have the
/// same place in their groups share a threshold.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct ConvTranspose1d {
    /// `[channels_in, channels_out / groups, kernel_size]`
    pub weight: Param<Tensor<3>>,
    /// `[channels_out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// Step of the kernel over the output.
    pub stride: usize,
    /// Length of the kernel.
    pub kernel_size: usize,
    /// Spacing between kernel elements.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// What is cut off all around the output.
    pub padding: usize,
    /// What is added to the output's end.
    pub padding_out: usize,
    /// Channels in and out.
    pub channels: [usize; 2],
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl ConvTranspose1dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// If `groups` does not divide both numbers of channels, as Burn's does.
    pub fn init(&self, device: &Device) -> ConvTranspose1d {
        let plain = burn::nn::conv::ConvTranspose1dConfig::new(self.channels, self.kernel_size)
            .with_stride(self.stride)
            .with_dilation(self.dilation)
            .with_groups(self.groups)
            .with_padding(self.padding)
            .with_padding_out(self.padding_out)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        let channels = Channels {
            axis: 1,
            count: self.channels[1] / self.groups,
        };
        ConvTranspose1d {
            weight: plain.weight,
            bias: plain.bias,
            stride: plain.stride,
            kernel_size: plain.kernel_size,
            dilation: plain.dilation,
            groups: plain.groups,
            padding: plain.padding,
            padding_out: plain.padding_out,
            channels: plain.channels,
            quantizers: self.quantization.init(Some(channels), device),
        }
    }
}

impl ConvTranspose1d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels_in, length]`
    /// - result: `[batch, channels_out, length_out]`, each size
    ///   `(size - 1) * stride + dilation * (kernel_size - 1) + padding_out - 2 * padding + 1`
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let options = ConvTransposeOptions::new(
            [self.stride],
            [self.padding],
            [self.padding_out],
            [self.dilation],
            self.groups,
        );
        let [channels_in, _, kernel @ ..] = self.weight.dims();
        let terms = channels_in / self.groups * kernel.iter().product::<usize>();
        let output = self.quantizers.accumulate(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            self.bias
                .as_ref()
                .map(|bias| self.quantizers.bias(bias.val())),
            Sums {
                groups: self.groups,
                ..Sums::new(terms, 1)
            },
            |input, weight, bias| ops::conv_transpose1d(input, weight, bias, options),
        );
        self.quantizers.output(output)
    }
}

impl ModuleDisplay for ConvTranspose1d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [channels_in, channels_out] = self.channels;
        content
            .add("ch_in", &channels_in)
            .add("ch_out", &channels_out)
            .add_debug_attribute("kernel_size", &self.kernel_size)
            .add_debug_attribute("stride", &self.stride)
            .add("groups", &self.groups)
            .add_debug_attribute("padding", &self.padding)
            .add_debug_attribute("padding_out", &self.padding_out)
            .optional()
    }
}
