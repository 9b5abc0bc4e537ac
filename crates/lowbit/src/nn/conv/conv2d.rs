//! Two-dimensional convolution.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::conv::parts::ConvParts;
use crate::nn::window::{Padding, Window};
use crate::ops::{self, Operands};
use crate::quantizers::Quantizers;

/// Configuration of a [`Conv2d`]; the fields of `burn::nn::conv::Conv2dConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct Conv2dConfig {
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

/// Convolution with quantized input, weight, bias, sum and output. Built by [`Conv2dConfig`]; parameter
/// paths are those of `burn::nn::conv::Conv2d`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::{config::QPlan, nn::Conv2dConfig};
///
/// let device = Device::flex();
/// let conv = Conv2dConfig::new([3, 8], [3, 3])
///     .with_quantization(QPlan::tqt(4, 8).default)
///     .init(&device);
/// assert_eq!(conv.forward(Tensor::zeros([1, 3, 9, 9], &device)).dims(), [1, 8, 7, 7]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Conv2d {
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
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl Conv2dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Conv2d {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::conv::Conv2dConfig::new(self.channels, self.kernel_size)
            .with_groups(self.groups)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        Conv2d {
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

    fn parts(&self) -> ConvParts<2> {
        ConvParts {
            channels: self.channels,
            groups: self.groups,
            window: Window {
                kernel_size: self.kernel_size,
                stride: self.stride,
                dilation: self.dilation,
                padding: Padding::from(&self.padding),
            },
        }
    }
}

impl Describe for Conv2dConfig {
    fn describe(&self) -> Description {
        self.parts().describe("Conv2d", self.bias).accumulating()
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

impl Conv2d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels_in, height, width]`
    /// - result: `[batch, channels_out, height_out, width_out]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.forward_by(input, |operands, options| {
            ops::conv2d_of(operands, options, self.quantizers.sums())
        })
    }

    /// The same, where `product` makes the product of the operands.
    pub(crate) fn forward_by(
        &self,
        input: Tensor<4>,
        product: impl FnOnce(Operands<4, 4>, ConvOptions<2>) -> Tensor<4>,
    ) -> Tensor<4> {
        let (parts, [_, _, size @ ..]) = (self.parts(), input.dims());
        let options = parts.options(size);
        self.quantizers.product(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            self.bias.as_ref().map(|bias| bias.val()),
            parts.sums(),
            |operands| product(operands, options),
        )
    }

    pub(crate) fn parts(&self) -> ConvParts<2> {
        let [channels_out, group_channels_in, ..] = self.weight.dims();
        ConvParts {
            channels: [group_channels_in * self.groups, channels_out],
            groups: self.groups,
            window: Window {
                kernel_size: self.kernel_size,
                stride: self.stride,
                dilation: self.dilation,
                padding: Padding::from(&self.padding),
            },
        }
    }
}

impl ModuleDisplay for Conv2d {
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
    use crate::config::QPlan;

    #[test]
    fn four_pixels_by_hand() {
        let device = Device::flex();
        let mut conv = Conv2dConfig::new([1, 1], [1, 2]).init(&device);
        conv.weight = Param::from_tensor(Tensor::from_floats([[[[1.0, -1.0]]]], &device));
        conv.bias = Some(Param::from_tensor(Tensor::from_floats([0.5], &device)));
        // 1 - 2 + 0.5 and 4 - 3 + 0.5.
        let y = conv.forward(Tensor::from_floats([[[[1.0, 2.0], [4.0, 3.0]]]], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-0.5, 1.5]);
    }

    #[test]
    fn a_configuration_that_cannot_be_built_says_why() {
        let config = Conv2dConfig::new([4, 6], [3, 3]);
        let refused = |config: Conv2dConfig| config.check().unwrap_err().to_string();
        assert_eq!(
            refused(config.clone().with_quantization(QPlan::tqt(8, 25).default)),
            "Conv2d.input: bits is 25, expected 2 to 24 (tqt)"
        );
        assert_eq!(
            refused(config.clone().with_groups(4)),
            "Conv2d.groups: is 4, expected a divisor of both 4 channels in and 6 out"
        );
        assert!(config.with_groups(2).check().is_ok());
    }

    #[test]
    #[should_panic(expected = "a kernel that reaches over 5 does not fit an input of 4")]
    fn a_kernel_larger_than_the_image_is_refused() {
        let device = Device::flex();
        let conv = Conv2dConfig::new([1, 1], [3, 1]).with_dilation([2, 1]);
        conv.init(&device)
            .forward(Tensor::zeros([1, 1, 4, 4], &device));
    }
}
