//! Three-dimensional convolution.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, PaddingConfig3d};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::conv::parts::ConvParts;
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::Quantizers;

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
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::{config::QPlan, nn::Conv3dConfig};
///
/// let device = Device::flex();
/// let conv = Conv3dConfig::new([1, 2], [3, 3, 3])
///     .with_quantization(QPlan::tqt(4, 8).default)
///     .init(&device);
/// let y = conv.forward(Tensor::zeros([1, 1, 4, 5, 6], &device));
/// assert_eq!(y.dims(), [1, 2, 2, 3, 4]);
/// ```
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
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Conv3d {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::conv::Conv3dConfig::new(self.channels, self.kernel_size)
            .with_groups(self.groups)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        Conv3d {
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

    fn parts(&self) -> ConvParts<3> {
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

impl Describe for Conv3dConfig {
    fn describe(&self) -> Description {
        self.parts().describe("Conv3d", self.bias).accumulating()
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

impl Conv3d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels_in, depth, height, width]`
    /// - result: `[batch, channels_out, depth_out, height_out, width_out]`
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        let (parts, [_, _, size @ ..]) = (self.parts(), input.dims());
        let mut options = parts.options(size);
        // Burn's operator takes as many zeros before as after.
        let apart = options.is_asymmetric().then_some(options.padding);
        if apart.is_some() {
            options.padding = [(0, 0); 3];
        }
        let output = self.quantizers.accumulate(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            self.bias.as_ref().map(|bias| bias.val()),
            parts.sums(),
            |input, weight, bias| {
                if let Some(sums) = self.quantizers.sums() {
                    let options = parts.options(size);
                    return ops::conv3d_with_sums(input, weight, bias, options, sums);
                }
                let input = match apart {
                    Some(padding) => input
                        .quantized()
                        .pad(padding, PadMode::Constant(0.0))
                        .into(),
                    None => input,
                };
                ops::conv3d(input, weight, bias, options)
            },
        );
        self.quantizers.output(output)
    }

    fn parts(&self) -> ConvParts<3> {
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

impl ModuleDisplay for Conv3d {
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

    /// A kernel of three ones with stride 2 over four ones: one zero is missing, at the end, so
    /// that the second sum is 2.
    #[test]
    fn same_padding_with_a_stride_puts_the_odd_zero_at_the_end() {
        let device = Device::flex();
        let conv = Conv3dConfig::new([1, 1], [1, 1, 3])
            .with_stride([1, 1, 2])
            .with_padding(PaddingConfig3d::Same)
            .with_bias(false)
            .with_initializer(Initializer::Constant { value: 1.0 })
            .init(&device);
        let y = conv.forward(Tensor::ones([1, 1, 1, 1, 4], &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [3.0, 2.0]);
    }

    /// 16 + 1 is in the middle of 16 and 18 in e4m3, of which 16 is even. With a zero at the end alone,
    /// the second sum is 1.
    #[test]
    fn sums_are_made_in_low_precision() {
        let device = Device::flex();
        let conv = Conv3dConfig::new([1, 1], [1, 1, 2])
            .with_padding(PaddingConfig3d::Same)
            .with_bias(false)
            .with_initializer(Initializer::Constant { value: 1.0 })
            .with_quantization(toml::from_str("accumulate = \"e4m3\"").unwrap())
            .init(&device);
        let x = Tensor::<1>::from_floats([16.0, 1.0], &device).reshape([1, 1, 1, 1, 2]);
        let y = conv.forward(x).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(y, [16.0, 1.0]);
    }
}
