//! One-dimensional convolution.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, PaddingConfig1d};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::conv::parts::ConvParts;
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`Conv1d`]; the fields of `burn::nn::conv::Conv1dConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct Conv1dConfig {
    /// Channels in.
    pub channels_in: usize,
    /// Channels out.
    pub channels_out: usize,
    /// Length of the kernel.
    pub kernel_size: usize,
    /// Step of the kernel over the input.
    #[config(default = "1")]
    pub stride: usize,
    /// Spacing between kernel elements.
    #[config(default = "1")]
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    #[config(default = "1")]
    pub groups: usize,
    /// Zeros around the input.
    #[config(default = "PaddingConfig1d::Valid")]
    pub padding: PaddingConfig1d,
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

/// Convolution with quantized input, weight, bias, sum and output. Built by [`Conv1dConfig`];
/// parameter paths are those of `burn::nn::conv::Conv1d`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::{config::QPlan, nn::Conv1dConfig};
///
/// let device = Device::flex();
/// let conv = Conv1dConfig::new(2, 4, 3)
///     .with_quantization(QPlan::tqt(4, 8).default)
///     .init(&device);
/// assert_eq!(conv.forward(Tensor::zeros([1, 2, 10], &device)).dims(), [1, 4, 8]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Conv1d {
    /// `[channels_out, channels_in / groups, kernel_size]`
    pub weight: Param<Tensor<3>>,
    /// `[channels_out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// Step of the kernel over the input.
    pub stride: usize,
    /// Length of the kernel.
    pub kernel_size: usize,
    /// Spacing between kernel elements.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Zeros around the input.
    #[module(skip)]
    pub padding: PaddingConfig1d,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl Conv1dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Conv1d {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::conv::Conv1dConfig::new(
            self.channels_in,
            self.channels_out,
            self.kernel_size,
        )
        .with_groups(self.groups)
        .with_bias(self.bias)
        .with_initializer(self.initializer.clone())
        .init(device);
        Conv1d {
            weight: plain.weight,
            bias: plain.bias,
            stride: self.stride,
            kernel_size: self.kernel_size,
            dilation: self.dilation,
            groups: self.groups,
            padding: self.padding.clone(),
            quantizers,
        }
    }

    fn parts(&self) -> ConvParts<1> {
        ConvParts {
            channels: [self.channels_in, self.channels_out],
            groups: self.groups,
            window: Window {
                kernel_size: [self.kernel_size],
                stride: [self.stride],
                dilation: [self.dilation],
                padding: Padding::from(&self.padding),
            },
        }
    }
}

impl Describe for Conv1dConfig {
    fn describe(&self) -> Description {
        self.parts().describe("Conv1d", self.bias).accumulating()
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        self.parts().check()
    }
}

impl Conv1d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels_in, length]`
    /// - result: `[batch, channels_out, length_out]`
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let (parts, [_, _, size @ ..]) = (self.parts(), input.dims());
        let options = parts.options(size);
        self.quantizers.product(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            self.bias.as_ref().map(|bias| bias.val()),
            parts.sums(),
            |operands| ops::conv1d_of(operands, options, self.quantizers.sums()),
        )
    }

    fn parts(&self) -> ConvParts<1> {
        let [channels_out, group_channels_in, ..] = self.weight.dims();
        ConvParts {
            channels: [group_channels_in * self.groups, channels_out],
            groups: self.groups,
            window: Window {
                kernel_size: [self.kernel_size],
                stride: [self.stride],
                dilation: [self.dilation],
                padding: Padding::from(&self.padding),
            },
        }
    }
}

impl ModuleDisplay for Conv1d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        self.parts().content(content, &self.padding).optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_by_hand() {
        let device = Device::flex();
        let mut conv = Conv1dConfig::new(1, 1, 2).with_bias(false).init(&device);
        conv.weight = Param::from_tensor(Tensor::from_floats([[[1.0, 2.0]]], &device));
        // 1 + 2 * 2 and 2 + 2 * 3.
        let y = conv.forward(Tensor::from_floats([[[1.0, 2.0, 3.0]]], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [5.0, 8.0]);
    }

    /// Three ones, two apart, over seven ones: the ends see one zero each.
    #[test]
    fn same_padding_counts_the_dilation() {
        let device = Device::flex();
        let conv = Conv1dConfig::new(1, 1, 3)
            .with_dilation(2)
            .with_padding(PaddingConfig1d::Same)
            .with_bias(false)
            .with_initializer(Initializer::Constant { value: 1.0 })
            .init(&device);
        let y = conv.forward(Tensor::ones([1, 1, 7], &device));
        let expected = [2.0, 2.0, 3.0, 3.0, 3.0, 2.0, 2.0];
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), expected);
    }
}
