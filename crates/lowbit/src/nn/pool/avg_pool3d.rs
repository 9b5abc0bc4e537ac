//! Three-dimensional average pooling.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig3d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`AvgPool3d`]; the fields of [`AvgPool2dConfig`](crate::nn::AvgPool2dConfig)
/// with a dimension more, and what is quantized.
#[derive(Config, Debug)]
pub struct AvgPool3dConfig {
    /// Depth, height and width of the window.
    pub kernel_size: [usize; 3],
    /// Step of the window; the window's size unless given.
    #[config(default = "kernel_size")]
    pub strides: [usize; 3],
    /// Padding around the input.
    #[config(default = "PaddingConfig3d::Valid")]
    pub padding: PaddingConfig3d,
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

/// The mean under each window of a volume; Burn has no layer for it. Composed of the
/// pooling of planes and that of sequences. Built by [`AvgPool3dConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::AvgPool3dConfig;
///
/// let device = Device::flex();
/// let pool = AvgPool3dConfig::new([1, 2, 2]).init(&device);
/// let y = pool.forward(Tensor::from_floats([[[[[1.0, 2.0], [4.0, 3.0]]]]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [2.5]);
/// ```
#[derive(Module, Debug)]
pub struct AvgPool3d {
    /// Depth, height and width of the window.
    pub kernel_size: [usize; 3],
    /// Step of the window.
    pub stride: [usize; 3],
    /// Padding around the input.
    #[module(skip)]
    pub padding: PaddingConfig3d,
    /// Whether padding counts in the mean.
    pub count_include_pad: bool,
    /// Whether a window that does not fit at the end counts.
    pub ceil_mode: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl AvgPool3dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> AvgPool3d {
        AvgPool3d {
            kernel_size: self.kernel_size,
            stride: self.strides,
            padding: self.padding.clone(),
            count_include_pad: self.count_include_pad,
            ceil_mode: self.ceil_mode,
            quantizers: self.init_quantizers(device),
        }
    }

    fn window(&self) -> Window<3> {
        Window {
            kernel_size: self.kernel_size,
            stride: self.strides,
            dilation: [1, 1, 1],
            padding: Padding::from(&self.padding),
        }
    }
}

impl Describe for AvgPool3dConfig {
    fn describe(&self) -> Description {
        Description::new("AvgPool3d")
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

impl AvgPool3d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, depth, height, width]`
    /// - result: `[batch, channels, depth_out, height_out, width_out]`
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        let input = self.quantizers.input(input).quantized();
        let [_, _, size @ ..] = input.dims();
        let padding = self.window().pooling_padding(size, self.ceil_mode);
        let options = AvgPoolOptions::new(self.kernel_size)
            .with_stride(self.stride)
            .with_padding_pairs(padding)
            .with_count_include_pad(self.count_include_pad)
            .with_ceil_mode(self.ceil_mode);
        let output = ops::avg_pool3d(input, options);
        self.quantizers.output(output)
    }

    fn window(&self) -> Window<3> {
        Window {
            kernel_size: self.kernel_size,
            stride: self.stride,
            dilation: [1, 1, 1],
            padding: Padding::from(&self.padding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of the numbers 0 to 7 is 3.5; with zeros counted on either side along the depth, of
    /// the first plane (0 + 1 + 2 + 3) / 8 = 0.75, and without them 6 / 4 = 1.5.
    #[test]
    fn the_mean_of_a_cube() {
        let device = Device::flex();
        let cube = || {
            let numbers =
                Tensor::<1>::from_floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], &device);
            numbers.reshape([1, 1, 2, 2, 2])
        };
        let first = |pool: AvgPool3d| pool.forward(cube()).into_data().iter::<f32>().next();
        let config = AvgPool3dConfig::new([2, 2, 2]);
        assert_eq!(first(config.init(&device)), Some(3.5));
        let config = config.with_padding(PaddingConfig3d::Explicit(1, 0, 0));
        assert_eq!(first(config.init(&device)), Some(0.75));
        let config = config.with_count_include_pad(false);
        assert_eq!(first(config.init(&device)), Some(1.5));
    }
}
