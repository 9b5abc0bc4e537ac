//! Two-dimensional max pooling.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`MaxPool2d`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct MaxPool2dConfig {
    /// Height and width of the window.
    pub kernel_size: [usize; 2],
    /// Step of the window; the window's size unless given.
    #[config(default = "kernel_size")]
    pub strides: [usize; 2],
    /// Padding around the input.
    #[config(default = "PaddingConfig2d::Valid")]
    pub padding: PaddingConfig2d,
    /// Spacing between window elements.
    #[config(default = "[1, 1]")]
    pub dilation: [usize; 2],
    /// Whether a window that does not fit at the end counts.
    #[config(default = false)]
    pub ceil_mode: bool,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The largest value under each window. Built by [`MaxPool2dConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::MaxPool2dConfig;
///
/// let device = Device::flex();
/// let pool = MaxPool2dConfig::new([2, 2]).init(&device);
/// let y = pool.forward(Tensor::from_floats([[[[1.0, 2.0], [4.0, 3.0]]]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [4.0]);
/// ```
#[derive(Module, Debug)]
pub struct MaxPool2d {
    /// Height and width of the window.
    pub kernel_size: [usize; 2],
    /// Step of the window.
    pub stride: [usize; 2],
    /// Padding around the input.
    #[module(skip)]
    pub padding: PaddingConfig2d,
    /// Spacing between window elements.
    pub dilation: [usize; 2],
    /// Whether a window that does not fit at the end counts.
    pub ceil_mode: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl MaxPool2dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> MaxPool2d {
        MaxPool2d {
            kernel_size: self.kernel_size,
            stride: self.strides,
            padding: self.padding.clone(),
            dilation: self.dilation,
            ceil_mode: self.ceil_mode,
            quantizers: self.init_quantizers(device),
        }
    }

    fn window(&self) -> Window<2> {
        Window {
            kernel_size: self.kernel_size,
            stride: self.strides,
            dilation: self.dilation,
            padding: Padding::from(&self.padding),
        }
    }
}

impl Describe for MaxPool2dConfig {
    fn describe(&self) -> Description {
        Description::new("MaxPool2d").with_signs(Signs::OfInputs)
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

impl MaxPool2d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - result: `[batch, channels, height_out, width_out]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let input = self.quantizers.input(input).quantized();
        let [_, _, size @ ..] = input.dims();
        let padding = self.window().pooling_padding(size, self.ceil_mode);
        let options = MaxPoolOptions::new(self.kernel_size)
            .with_stride(self.stride)
            .with_padding_pairs(padding)
            .with_dilation(self.dilation)
            .with_ceil_mode(self.ceil_mode);
        let output = ops::max_pool2d(input, options);
        self.quantizers.output(output)
    }

    fn window(&self) -> Window<2> {
        Window {
            kernel_size: self.kernel_size,
            stride: self.stride,
            dilation: self.dilation,
            padding: Padding::from(&self.padding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_wholly_in_the_padding_is_refused() {
        let config =
            MaxPool2dConfig::new([2, 2]).with_padding(PaddingConfig2d::Explicit(0, 2, 0, 2));
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "MaxPool2d.padding: is 2, expected less than the window's reach, 2"
        );
    }

    #[test]
    #[should_panic(expected = "a kernel that reaches over 2 does not fit an input of 1")]
    fn a_window_larger_than_the_image_is_refused() {
        let device = Device::flex();
        let pool = MaxPool2dConfig::new([2, 2]).init(&device);
        pool.forward(Tensor::zeros([1, 1, 1, 4], &device));
    }
}
