//! Two-dimensional average pooling.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`AvgPool2d`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct AvgPool2dConfig {
    /// Height and width of the window.
    pub kernel_size: [usize; 2],
    /// Step of the window; the window's size unless given.
    #[config(default = "kernel_size")]
    pub strides: [usize; 2],
    /// Padding around the input.
    #[config(default = "PaddingConfig2d::Valid")]
    pub padding: PaddingConfig2d,
    /// Whether padding counts in the mean.
    #[config(default = true)]
    pub count_include_pad: bool,
    /// Whether a window that does not fit at the end counts.
    #[config(default = false)]
    pub ceil_mode: bool,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The mean under each window. Built by [`AvgPool2dConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::AvgPool2dConfig;
///
/// let device = Device::flex();
/// let pool = AvgPool2dConfig::new([2, 2]).init(&device);
/// let y = pool.forward(Tensor::from_floats([[[[1.0, 2.0], [4.0, 3.0]]]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [2.5]);
/// ```
#[derive(Module, Debug)]
pub struct AvgPool2d {
    /// Height and width of the window.
    pub kernel_size: [usize; 2],
    /// Step of the window.
    pub stride: [usize; 2],
    /// Padding around the input.
    #[module(skip)]
    pub padding: PaddingConfig2d,
    /// Whether padding counts in the mean.
    pub count_include_pad: bool,
    /// Whether a window that does not fit at the end counts.
    pub ceil_mode: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl AvgPool2dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> AvgPool2d {
        AvgPool2d {
            kernel_size: self.kernel_size,
            stride: self.strides,
            padding: self.padding.clone(),
            count_include_pad: self.count_include_pad,
            ceil_mode: self.ceil_mode,
            quantizers: self.init_quantizers(device),
        }
    }

    fn window(&self) -> Window<2> {
        Window {
            kernel_size: self.kernel_size,
            stride: self.strides,
            dilation: [1, 1],
            padding: Padding::from(&self.padding),
        }
    }
}

impl Describe for AvgPool2dConfig {
    fn describe(&self) -> Description {
        Description::new("AvgPool2d")
            .leaving_grid()
            .with_signs(Signs::OfInputs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        self.window().check_pooling("strides")
    }
}

impl AvgPool2d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - result: `[batch, channels, height_out, width_out]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let input = self.quantizers.input(input).quantized();
        let [_, _, size @ ..] = input.dims();
        let padding = self.window().pooling_padding(size, self.ceil_mode);
        let options = AvgPoolOptions::new(self.kernel_size)
            .with_stride(self.stride)
            .with_padding_pairs(padding)
            .with_count_include_pad(self.count_include_pad)
            .with_ceil_mode(self.ceil_mode);
        let output = ops::avg_pool2d(input, options);
        self.quantizers.output(output)
    }

    fn window(&self) -> Window<2> {
        Window {
            kernel_size: self.kernel_size,
            stride: self.stride,
            dilation: [1, 1],
            padding: Padding::from(&self.padding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Were a window wholly in the padding allowed, its mean would be 0 / 0.
    #[test]
    fn a_mean_of_nothing_is_refused() {
        let config = AvgPool2dConfig::new([1, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 0, 1, 0))
            .with_count_include_pad(false);
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "AvgPool2d.padding: is 1, expected less than the window's reach, 1"
        );
        assert_eq!(
            AvgPool2dConfig::new([2, 2])
                .with_strides([0, 1])
                .check()
                .unwrap_err()
                .to_string(),
            "AvgPool2d.strides: is [0, 1], expected at least 1 each"
        );
    }
}
