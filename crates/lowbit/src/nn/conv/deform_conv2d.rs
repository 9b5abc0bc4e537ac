//! Deformable convolution.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::conv::parts::ConvParts;
use crate::nn::window::{Padding, Window, at_least_one};
use crate::ops;
use crate::quantizers::{Quantizers, Slot};

/// Slot of where the places of the kernel read.
const OFFSET: &str = "offset";
/// Slot of what they are multiplied by.
const MASK: &str = "mask";

/// Configuration of a [`DeformConv2d`]; the fields of `burn::nn::conv::DeformConv2dConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct DeformConv2dConfig {
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
    pub weight_groups: usize,
    /// Groups of channels in with offsets of their own.
    #[config(default = "1")]
    pub offset_groups: usize,
    /// Zeros around the input.
    #[config(default = "PaddingConfig2d::Valid")]
    pub padding: PaddingConfig2d,
    /// Whether a bias is added.
    #[config(default = true)]
    pub bias: bool,
    /// How weight and bias start; as Burn's, uniform within `sqrt(1 / fan_in)`.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
    /// What is quantized; the slots are `input`, `weight`, `bias`, `offset`, `mask`, `output`, `error` and
    /// `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Convolution whose kernel reads beside its places, by offsets that a layer before it makes (Dai et al.,
/// arXiv 1703.06211; with a mask Zhu et al., arXiv 1811.11168). Built by [`DeformConv2dConfig`];
/// parameter paths are those of `burn::nn::conv::DeformConv2d`. Input, offsets and mask are quantized as
/// they come; what is read between pixels is in float.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::DeformConv2dConfig;
///
/// let device = Device::flex();
/// let conv = DeformConv2dConfig::new([3, 8], [3, 3]).init(&device);
/// let (x, offset) = (Tensor::zeros([1, 3, 9, 9], &device), Tensor::zeros([1, 18, 7, 7], &device));
/// assert_eq!(conv.forward(x, offset, None).dims(), [1, 8, 7, 7]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct DeformConv2d {
    /// `[channels_out, channels_in / weight_groups, kernel_height, kernel_width]`
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
    pub weight_groups: usize,
    /// Groups of channels in with offsets of their own.
    pub offset_groups: usize,
    /// Zeros around the input.
    #[module(skip)]
    pub padding: PaddingConfig2d,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl DeformConv2dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> DeformConv2d {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::conv::DeformConv2dConfig::new(self.channels, self.kernel_size)
            .with_weight_groups(self.weight_groups)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        DeformConv2d {
            weight: plain.weight,
            bias: plain.bias,
            stride: self.stride,
            kernel_size: self.kernel_size,
            dilation: self.dilation,
            weight_groups: self.weight_groups,
            offset_groups: self.offset_groups,
            padding: self.padding.clone(),
            quantizers,
        }
    }

    fn parts(&self) -> ConvParts<2> {
        ConvParts {
            channels: self.channels,
            groups: self.weight_groups,
            window: Window {
                kernel_size: self.kernel_size,
                stride: self.stride,
                dilation: self.dilation,
                padding: Padding::from(&self.padding),
            },
        }
    }
}

impl Describe for DeformConv2dConfig {
    fn describe(&self) -> Description {
        let summing = self.parts().describe("DeformConv2d", self.bias);
        let mut slots = summing.slots;
        slots.retain(|slot| *slot != Slot::ACCUMULATOR);
        slots.extend([OFFSET, MASK]);
        // What it sums is interpolated, and on no grid.
        Description {
            slots,
            sums: None,
            shares: Vec::new(),
            ..summing
        }
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        self.parts().check()?;
        at_least_one("offset_groups", &[self.offset_groups])?;
        let [channels_in, _] = self.channels;
        if channels_in.is_multiple_of(self.offset_groups) {
            return Ok(());
        }
        let groups = self.offset_groups;
        let message = format!("is {groups}, expected a divisor of {channels_in} channels in");
        Err(Error::config("offset_groups", message))
    }
}

impl DeformConv2d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// Those of [`ops::deform_conv2d`].
    pub fn forward(
        &self,
        input: Tensor<4>,
        offset: Tensor<4>,
        mask: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let [_, _, size @ ..] = input.dims();
        let options = self.parts().options(size);
        let quantizers = &self.quantizers;
        let operands = [
            quantizers.input(input),
            quantizers.activation(OFFSET, offset),
            quantizers.weight(self.weight.val()),
        ];
        let mask = mask.map(|mask| quantizers.activation(MASK, mask));
        let bias = self.bias.as_ref().map(|bias| quantizers.bias(bias.val()));
        let output = ops::deform_conv2d(operands, mask, bias, options, self.offset_groups);
        quantizers.output(output)
    }

    fn parts(&self) -> ConvParts<2> {
        let [channels_out, group_channels_in, ..] = self.weight.dims();
        ConvParts {
            channels: [group_channels_in * self.weight_groups, channels_out],
            groups: self.weight_groups,
            window: Window {
                kernel_size: self.kernel_size,
                stride: self.stride,
                dilation: self.dilation,
                padding: Padding::from(&self.padding),
            },
        }
    }
}

impl ModuleDisplay for DeformConv2d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let content = self.parts().content(content, &self.padding);
        content.add("offset_groups", &self.offset_groups).optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel of one place with the weight 2 and half a column of offset reads the mean of neighbours:
    /// of 1, 3 and what is beyond the image 2 (1 + 3) / 2 and 2 (3 + 0) / 2, times the mask 1/2.
    #[test]
    fn half_a_column_aside_by_hand() {
        let device = Device::flex();
        let mut layer = DeformConv2dConfig::new([1, 1], [1, 1])
            .with_bias(false)
            .init(&device);
        layer.weight = Param::from_tensor(Tensor::full([1, 1, 1, 1], 2.0, &device));
        let x = Tensor::<4>::from_floats([[[[1.0, 3.0]]]], &device);
        let offset = Tensor::<4>::from_floats([[[[0.0, 0.0]], [[0.5, 0.5]]]], &device);
        let mask = Tensor::full([1, 1, 1, 2], 0.5, &device);
        let y = layer.forward(x, offset, Some(mask)).into_data();
        assert_eq!(y.try_to_vec::<f32>().unwrap(), [2.0, 1.5]);
    }

    #[test]
    fn groups_of_offsets_divide_the_channels() {
        let refused = DeformConv2dConfig::new([4, 2], [3, 3])
            .with_offset_groups(3)
            .check();
        assert_eq!(
            refused.unwrap_err().to_string(),
            "DeformConv2d.offset_groups: is 3, expected a divisor of 4 channels in"
        );
    }
}
