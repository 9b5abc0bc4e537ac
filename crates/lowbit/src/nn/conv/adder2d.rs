//! Two-dimensional sum of distances.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::conv::parts::ConvParts;
use crate::nn::window::{Padding, Window};
use crate::ops::{self, AdderOptions};
use crate::quantizers::{Quantizers, Sums, Term};

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
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::{config::QPlan, nn::Adder2dConfig};
///
/// let device = Device::flex();
/// let adder = Adder2dConfig::new([3, 8], [3, 3])
///     .with_quantization(QPlan::tqt(8, 8).default)
///     .init(&device);
/// assert_eq!(adder.forward(Tensor::zeros([1, 3, 9, 9], &device)).dims(), [1, 8, 7, 7]);
/// ```
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
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Adder2d {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::conv::Conv2dConfig::new(self.channels, self.kernel_size)
            .with_groups(self.groups)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(device);
        Adder2d {
            weight: plain.weight,
            bias: plain.bias,
            stride: self.stride,
            kernel_size: self.kernel_size,
            dilation: self.dilation,
            groups: self.groups,
            padding: self.padding.clone(),
            adaptive_rate: self.adaptive_rate,
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

impl Describe for Adder2dConfig {
    fn describe(&self) -> Description {
        Description {
            sums: Some(distances(self.parts().sums())),
            ..self.parts().describe("Adder2d", self.bias)
        }
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
        let (parts, [_, _, size @ ..]) = (self.parts(), input.dims());
        let options = AdderOptions {
            stride: self.stride,
            padding: parts.window.padding(size),
            dilation: self.dilation,
            groups: self.groups,
            adaptive_rate: self.adaptive_rate,
        };
        self.quantizers.accumulate(
            self.quantizers.input(input),
            self.quantizers.weight(self.weight.val()),
            bias,
            distances(parts.sums()),
            |input, weight, bias| ops::adder2d(input, weight, bias, options),
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

/// The same sums, of distances.
fn distances(sums: Sums) -> Sums {
    Sums {
        term: Term::Distance,
        ..sums
    }
}

impl ModuleDisplay for Adder2d {
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
    fn two_distances_by_hand() {
        let device = Device::flex();
        let mut adder = Adder2dConfig::new([1, 1], [1, 2]).init(&device);
        adder.weight = Param::from_tensor(Tensor::from_floats([[[[3.0, -1.0]]]], &device));
        // -(|1 - 3| + |2 + 1|).
        let y = adder.forward(Tensor::from_floats([[[[1.0, 2.0]]]], &device));
        assert_eq!(y.into_scalar::<f32>(), -5.0);
        let sums = Adder2dConfig::new([4, 2], [3, 3]).describe().sums;
        assert_eq!(
            sums.map(|sums| (sums.term, sums.terms)),
            Some((Term::Distance, 36))
        );
    }
}
