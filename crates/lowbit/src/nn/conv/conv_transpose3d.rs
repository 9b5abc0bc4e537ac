//! Transposed three-dimensional convolution.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::conv::parts::TransposedParts;
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`ConvTranspose3d`]; the fields of `burn::nn::conv::ConvTranspose3dConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct ConvTranspose3dConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Depth, height and width of the kernel.
    pub kernel_size: [usize; 3],
    /// Step of the kernel over the output.
    #[config(default = "[1, 1, 1]")]
    pub stride: [usize; 3],
    /// Spacing between kernel elements.
    #[config(default = "[1, 1, 1]")]
    pub dilation: [usize; 3],
    /// Groups of channels that do not see each other.
    #[config(default = "1")]
    pub groups: usize,
    /// What is cut off all around the output.
    #[config(default = "[0, 0, 0]")]
    pub padding: [usize; 3],
    /// What is added to the output's end.
    #[config(default = "[0, 0, 0]")]
    pub padding_out: [usize; 3],
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
/// [`ConvTranspose3dConfig`]; parameter paths are those of `burn::nn::conv::ConvTranspose3d`.
///
/// A weight's channels are its second dimension: with `per_channel`, output channels that have the
/// same place in their groups share a threshold.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::{config::QPlan, nn::ConvTranspose3dConfig};
///
/// let device = Device::flex();
/// let conv = ConvTranspose3dConfig::new([2, 4], [1, 1, 2])
///     .with_stride([1, 1, 2])
///     .with_quantization(QPlan::tqt(4, 8).default)
///     .init(&device);
/// assert_eq!(conv.forward(Tensor::zeros([1, 2, 1, 1, 5], &device)).dims(), [1, 4, 1, 1, 10]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct ConvTranspose3d {
    /// `[channels_in, channels_out / groups, kernel_depth, kernel_height, kernel_width]`
    pub weight: Param<Tensor<5>>,
    /// `[channels_out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// Step of the kernel over the output.
    pub stride: [usize; 3],
    /// Depth, height and width of the kernel.
    pub kernel_size: [usize; 3],
    /// Spacing between kernel elements.
    pub dilation: [usize; 3],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// What is cut off all around the output.
    pub padding: [usize; 3],
    /// What is added to the output's end.
    pub padding_out: [usize; 3],
    /// Channels in and out.
    pub channels: [usize; 2],
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl ConvTranspose3dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> ConvTranspose3d {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::conv::ConvTranspose3dConfig::new(self.channels, self.kernel_size)
            .with_groups(self.groups)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        ConvTranspose3d {
            weight: plain.weight,
            bias: plain.bias,
            stride: self.stride,
            kernel_size: self.kernel_size,
            dilation: self.dilation,
            groups: self.groups,
            padding: self.padding,
            padding_out: self.padding_out,
            channels: self.channels,
            quantizers,
        }
    }

    fn parts(&self) -> TransposedParts<3> {
        TransposedParts {
            channels: self.channels,
            groups: self.groups,
            kernel_size: self.kernel_size,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            padding_out: self.padding_out,
        }
    }
}

impl Describe for ConvTranspose3dConfig {
    fn describe(&self) -> Description {
        self.parts()
            .describe("ConvTranspose3d", self.bias)
            .accumulating()
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

impl ConvTranspose3d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels_in, depth, height, width]`
    /// - result: `[batch, channels_out, depth_out, height_out, width_out]`, each size
    ///   `(size - 1) * stride + dilation * (kernel_size - 1) + padding_out - 2 * padding + 1`
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        let (parts, [_, _, size @ ..]) = (self.parts(), input.dims());
        let options = parts.options(size);
        let output = self.quantizers.accumulate(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            self.bias.as_ref().map(|bias| bias.val()),
            parts.sums(),
            |input, weight, bias| match self.quantizers.sums() {
                None => ops::conv_transpose3d(input, weight, bias, options),
                Some(sums) => ops::conv_transpose3d_with_sums(input, weight, bias, options, sums),
            },
        );
        self.quantizers.output(output)
    }

    fn parts(&self) -> TransposedParts<3> {
        TransposedParts {
            channels: self.channels,
            groups: self.groups,
            kernel_size: self.kernel_size,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            padding_out: self.padding_out,
        }
    }
}

impl ModuleDisplay for ConvTranspose3d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        self.parts().content(content).optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number becomes a kernel: 1 and 2 times (1, 10), side by side.
    #[test]
    fn two_numbers_by_hand() {
        let device = Device::flex();
        let mut conv = ConvTranspose3dConfig::new([1, 1], [1, 1, 2])
            .with_stride([1, 1, 2])
            .with_bias(false)
            .init(&device);
        let weight = Tensor::<1>::from_floats([1.0, 10.0], &device);
        conv.weight = Param::from_tensor(weight.reshape([1, 1, 1, 1, 2]));
        let x = Tensor::<1>::from_floats([1.0, 2.0], &device).reshape([1, 1, 1, 1, 2]);
        let y = conv.forward(x).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(y, [1.0, 10.0, 2.0, 20.0]);
    }

    #[test]
    #[should_panic(expected = "a padding of 2 cuts off all of an output of 4")]
    fn a_padding_that_leaves_nothing_is_refused() {
        let device = Device::flex();
        let conv = ConvTranspose3dConfig::new([1, 1], [1, 1, 2])
            .with_stride([1, 1, 2])
            .with_padding([0, 0, 2])
            .init(&device);
        conv.forward(Tensor::zeros([1, 1, 1, 1, 2], &device));
    }

    /// 16 + 1 is in the middle of 16 and 18 in e4m3, of which 16 is even.
    #[test]
    fn sums_are_made_in_low_precision() {
        let device = Device::flex();
        let conv = ConvTranspose3dConfig::new([1, 1], [1, 1, 2])
            .with_bias(false)
            .with_initializer(Initializer::Constant { value: 1.0 })
            .with_quantization(toml::from_str("accumulate = \"e4m3\"").unwrap())
            .init(&device);
        let x = Tensor::<1>::from_floats([16.0, 1.0], &device).reshape([1, 1, 1, 1, 2]);
        let y = conv.forward(x).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(y, [16.0, 16.0, 1.0]);
    }
}
