//! Three-dimensional convolution.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, PaddingConfig3d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use crate::config::QConfig;
use crate::nn::conv::padding;
use crate::ops;
use crate::quantizers::{Channels, Quantizers, Sums};

/// Configuration of a [`Conv3d`]; the fields of `burn::nn::conv::Conv3dConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct Conv3dConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Depth, height and width of the kernel.
    pub kernel_size: [usize; 3],
    /// Step of the kernel over the input.
    #[config(default = "[1, 1, 1]")]
    pub stride: [usize; 3],
    /// Spacing between kernel elements.
    #[config(default = "[1, 1, 1]")]
    pub dilation: [usize; 3],
    /// Groups of channels that do not see each other.
    #[config(default = "1")]
    pub groups: usize,
    /// Zeros around the input.
    #[config(default = "PaddingConfig3d::Valid")]
    pub padding: PaddingConfig3d,
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

/// Convolution with quantized input, weight, bias, sum and output. Built by [`Conv3dConfig`];
/// parameter paths are those of `burn::nn::conv::Conv3d`.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Conv3d {
    /// `[channels_out, channels_in / groups, kernel_depth, kernel_height, kernel_width]`
    pub weight: Param<Tensor<5>>,
    /// `[channels_out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// Step of the kernel over the input.
    pub stride: [usize; 3],
    /// Depth, height and width of the kernel.
    pub kernel_size: [usize; 3],
    /// Spacing between kernel elements.
    pub dilation: [usize; 3],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Zeros around the input.
    #[module(skip)]
    pub padding: PaddingConfig3d,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl Conv3dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// If `groups` does not divide both numbers of channels, or `Same` padding meets an even kernel,
    /// as Burn's does.
    pub fn init(&self, device: &Device) -> Conv3d {
        let plain = burn::nn::conv::Conv3dConfig::new(self.channels, self.kernel_size)
            .with_stride(self.stride)
            .with_dilation(self.dilation)
            .with_groups(self.groups)
            .with_padding(self.padding.clone())
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        let channels = Channels {
            axis: 0,
            count: self.channels[1],
        };
        Conv3d {
            weight: plain.weight,
            bias: plain.bias,
            stride: plain.stride,
            kernel_size: plain.kernel_size,
            dilation: plain.dilation,
            groups: plain.groups,
            padding: plain.padding,
            quantizers: self.quantization.init(Some(channels), device),
        }
    }
}

impl Conv3d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels_in, depth, height, width]`
    /// - result: `[batch, channels_out, depth_out, height_out, width_out]`
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        let [_, _, depth, height, width] = input.dims();
        let padding = padding::triples(
            &self.padding,
            [depth, height, width],
            self.kernel_size,
            self.stride,
        );
        let options =
            ConvOptions::new_with_padding(self.stride, padding, self.dilation, self.groups);
        let [_, terms @ ..] = self.weight.dims();
        let output = self.quantizers.accumulate(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            self.bias
                .as_ref()
                .map(|bias| self.quantizers.bias(bias.val())),
            Sums::new(terms.iter().product(), 1),
            |input, weight, bias| ops::conv3d(input, weight, bias, options),
        );
        self.quantizers.output(output)
    }
}

impl ModuleDisplay for Conv3d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [channels_out, group_channels_in, _, _, _] = self.weight.dims();
        content
            .add("ch_in", &(group_channels_in * self.groups))
            .add("ch_out", &channels_out)
            .add_debug_attribute("kernel_size", &self.kernel_size)
            .add_debug_attribute("stride", &self.stride)
            .add("groups", &self.groups)
            .add_debug_attribute("padding", &self.padding)
            .optional()
    }
}
