//! Two-dimensional convolution whose products are shifts.

use std::ops::RangeInclusive;

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::conv::parts::ConvParts;
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::{
    FormatQuantizer, FormatQuantizerConfig, QuantizerConfig, Quantizers, Slot,
};

/// Widths of a weight.
const WEIGHT_BITS: RangeInclusive<u8> = 2..=8;

/// Configuration of a [`ShiftConv2d`]; the fields of `burn::nn::conv::Conv2dConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct ShiftConv2dConfig {
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
    /// Bits of a weight, 2 to 8: the sign and `2^(bits-1) - 1` shifts, from none downwards.
    #[config(default = 5)]
    pub weight_bits: u8,
    /// What is quantized; the slots are `input`, `bias`, `accumulator` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Convolution with weights rounded to zero and signed powers of two, so that each product is a
/// shift: `sign(w) 2^p` with `p = round(log2 |w|)`, held to 0 and `2 - 2^(weight_bits-1)` (-14 for
/// the usual 5 bits), and 0 for 0. The gradient passes straight through. This is DeepShift's layer
/// that trains weights (DeepShift-Q, arXiv 1905.13298), which ShiftAddNet (arXiv 2010.12785) pairs
/// with an adder, [`ShiftAdder2d`](super::ShiftAdder2d). Built by [`ShiftConv2dConfig`]; parameter
/// paths are those of `burn::nn::conv::Conv2d`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::ShiftConv2dConfig;
///
/// let device = Device::flex();
/// let conv = ShiftConv2dConfig::new([3, 8], [3, 3]).with_weight_bits(4).init(&device);
/// assert_eq!(conv.forward(Tensor::zeros([1, 3, 9, 9], &device)).dims(), [1, 8, 7, 7]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct ShiftConv2d {
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
    /// Rounds the weight to powers of two.
    pub shifts: FormatQuantizer,
    /// The layer's other quantizers.
    pub quantizers: Quantizers,
}

impl ShiftConv2dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> ShiftConv2d {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::conv::Conv2dConfig::new(self.channels, self.kernel_size)
            .with_groups(self.groups)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        ShiftConv2d {
            weight: plain.weight,
            bias: plain.bias,
            stride: self.stride,
            kernel_size: self.kernel_size,
            dilation: self.dilation,
            groups: self.groups,
            padding: self.padding.clone(),
            shifts: FormatQuantizerConfig::shifts_of_weight(self.weight_bits).init(),
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

impl Describe for ShiftConv2dConfig {
    fn describe(&self) -> Description {
        let mut description = self.parts().describe("ShiftConv2d", self.bias);
        description.slots.retain(|slot| *slot != "weight");
        let bits = WEIGHT_BITS
            .contains(&self.weight_bits)
            .then_some(self.weight_bits);
        Description {
            weight_format: bits
                .map(FormatQuantizerConfig::shifts_of_weight)
                .map(QuantizerConfig::Format),
            // Its weight has no scale.
            shares: Vec::new(),
            ..description
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
        let bits = self.weight_bits;
        let refused = |expected| {
            Err(Error::config(
                "weight_bits",
                format!("is {bits}, expected {expected}"),
            ))
        };
        if !WEIGHT_BITS.contains(&bits) {
            return refused("2 to 8");
        }
        // No register holds longer shifts.
        if bits > 6 && self.quantization.accumulator.is_some() {
            return refused("at most 6 with an accumulator");
        }
        Ok(())
    }
}

impl ShiftConv2d {
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
        let (parts, [_, _, size @ ..]) = (self.parts(), input.dims());
        let options = parts.options(size);
        let weight = self.weight.val();
        let gradient = self.quantizers.gradient(Slot::GRADIENT, &weight.device());
        self.quantizers.accumulate(
            self.quantizers.input(input),
            self.shifts.operand(weight).with_own_gradient(gradient),
            bias,
            parts.sums(),
            |input, weight, bias| ops::conv2d(input, weight, bias, options),
        )
    }

    fn parts(&self) -> ConvParts<2> {
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

impl ModuleDisplay for ShiftConv2d {
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
    use crate::config::TqtPlan;

    /// log2 0.3 = -1.7 rounds to -2, so that 4 becomes 1; log2 -0.6 = -0.7 (of 0.6) to -1.
    #[test]
    fn two_shifts_by_hand() {
        let device = Device::flex();
        let mut conv = ShiftConv2dConfig::new([1, 2], [1, 1])
            .with_bias(false)
            .init(&device);
        conv.weight = Param::from_tensor(Tensor::from_floats([[[[0.3]]], [[[-0.6]]]], &device));
        let y = conv.forward(Tensor::full([1, 1, 1, 1], 4.0, &device));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn shifts_too_long_for_a_register_are_refused() {
        let config = ShiftConv2dConfig::new([1, 1], [1, 1]).with_weight_bits(7);
        assert!(config.check().is_ok());
        let quantization = TqtPlan::new(8, 8).all_tensors().plan().default;
        let quantization = quantization.without("weight");
        assert_eq!(
            config
                .with_quantization(quantization)
                .check()
                .unwrap_err()
                .to_string(),
            "ShiftConv2d.weight_bits: is 7, expected at most 6 with an accumulator"
        );
    }
}
