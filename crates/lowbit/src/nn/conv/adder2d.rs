//! Two-dimensional sum of distances.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use crate::config::QConfig;
use crate::nn::conv::padding;
use crate::ops::{self, AdderOptions};
use crate::quantizers::{Channels, Quantizers, Sums, Term};

/// Configuration of an [`Adder2d`]; the fields of `burn::nn::conv::Conv2dConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct Adder2dConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Step of the kernel over the input.
    #[config(default = "[1, 1]")]
    pub stride: [usize; 2],
    /// Spacing between kernel elements.
    #[config(default = "[1, 1]")]
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    #[config(default = "1")]
    pub groups: usize,
    /// Zeros around the input.
    #[config(default = "PaddingConfig2d::Valid")]
    pub padding: PaddingConfig2d,
    /// Whether a bias is added; none usually, since a normalization follows.
    #[config(default = false)]
    pub bias: bool,
    /// How weight and bias start; normal with variance 1, the size of the normalized inputs that
    /// the weights are compared with.
    #[config(default = "Initializer::Normal{mean:0.0,std:1.0}")]
    pub initializer: Initializer,
    /// The weight gradient's norm per square root of its length, `eta` of the adaptive local
    /// learning rate; the gradient as it is unless given.
    #[config(default = "None")]
    pub adaptive_rate: Option<f64>,
    /// What is quantized.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The layer of AdderNet (arXiv 1912.13200): minus the l1 distance of the weight from each part of
/// the input, `-sum |x - w|`, with quantized input, weight, bias, sum and output; see
/// [`ops::adder2d`](crate::ops::adder2d()) for its gradients. Built by [`Adder2dConfig`]; parameter
/// paths are those of `burn::nn::conv::Conv2d`. Zeros of the padding count as inputs.
///
/// Integer hardware subtracts integers of one step, so input and weight should share a threshold.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Adder2d {
    /// `[channels_out, channels_in / groups, kernel_height, kernel_width]`
    pub weight: Param<Tensor<4>>,
    /// `[channels_out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// Step of the kernel over the input.
    pub stride: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Spacing between kernel elements.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Zeros around the input.
    #[module(skip)]
    pub padding: PaddingConfig2d,
    /// `eta` of the adaptive local learning rate, where it is used.
    pub adaptive_rate: Option<f64>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl Adder2dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// If `groups` does not divide both numbers of channels, as Burn's does.
    pub fn init(&self, device: &Device) -> Adder2d {
        let plain = burn::nn::conv::Conv2dConfig::new(self.channels, self.kernel_size)
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
        Adder2d {
            weight: plain.weight,
            bias: plain.bias,
            stride: plain.stride,
            kernel_size: plain.kernel_size,
            dilation: plain.dilation,
            groups: plain.groups,
            padding: plain.padding,
            adaptive_rate: self.adaptive_rate,
            quantizers: self.quantization.init(Some(channels), device),
        }
    }
}

impl Adder2d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels_in, height, width]`
    /// - result: `[batch, channels_out, height_out, width_out]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(|bias| bias.val());
        self.quantizers.output(self.sums(input, bias))
    }

    /// The sums, saturated to the accumulator's width, and `bias` added to them.
    pub(crate) fn sums(&self, input: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
        let [_, _, height, width] = input.dims();
        let padding = padding::pairs(
            &self.padding,
            [height, width],
            self.kernel_size,
            self.stride,
        );
        let options = AdderOptions {
            stride: self.stride,
            padding,
            dilation: self.dilation,
            groups: self.groups,
            adaptive_rate: self.adaptive_rate,
        };
        let [_, terms @ ..] = self.weight.dims();
        self.quantizers.accumulate(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            bias.map(|bias| self.quantizers.bias(bias)),
            Sums {
                term: Term::Distance,
                ..Sums::new(terms.iter().product(), 1)
            },
            |input, weight, bias| ops::adder2d(input, weight, bias, options),
        )
    }
}

impl ModuleDisplay for Adder2d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [channels_out, group_channels_in, _, _] = self.weight.dims();
        content
            .add("ch_in", &(group_channels_in * self.groups))
            .add("ch_out", &channels_out)
            .add_debug_attribute("kernel_size", &self.kernel_size)
            .add_debug_attribute("stride", &self.stride)
            .add_debug_attribute("padding", &self.padding)
            .optional()
    }
}
