//! Three-dimensional max pooling.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig3d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`MaxPool3d`]; the fields of [`MaxPool2dConfig`](crate::nn::MaxPool2dConfig)
/// with a dimension more, and what is quantized.
#[derive(Config, Debug)]
pub struct MaxPool3dConfig {
    /// Depth, height and width of the window.
    pub kernel_size: [usize; 3],
    /// Step of the window; the window's size unless given.
    #[config(default = "kernel_size")]
    pub strides: [usize; 3],
    /// Padding around the input.
    #[config(default = "PaddingConfig3d::Valid")]
    pub padding: PaddingConfig3d,
    /// Spacing between window elements.
    #[config(default = "[1, 1, 1]")]
    pub dilation: [usize; 3],
    /// Whether a window that does not fit at the end counts.
    #[config(default = false)]
    pub ceil_mode: bool,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The largest value under each window of a volume; Burn has no layer for it. Composed of the
/// pooling of planes and that of sequences. Built by [`MaxPool3dConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::MaxPool3dConfig;
///
/// let device = Device::flex();
/// let pool = MaxPool3dConfig::new([1, 2, 2]).init(&device);
/// let y = pool.forward(Tensor::from_floats([[[[[1.0, 2.0], [4.0, 3.0]]]]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [4.0]);
/// ```
#[derive(Module, Debug)]
pub struct MaxPool3d {
    /// Depth, height and width of the window.
    pub kernel_size: [usize; 3],
    /// Step of the window.
    pub stride: [usize; 3],
    /// Padding around the input.
    #[module(skip)]
    pub padding: PaddingConfig3d,
    /// Spacing between window elements.
    pub dilation: [usize; 3],
    /// Whether a window that does not fit at the end counts.
    pub ceil_mode: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl MaxPool3dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> MaxPool3d {
        MaxPool3d {
            kernel_size: self.kernel_size,
            stride: self.strides,
            padding: self.padding.clone(),
            dilation: self.dilation,
            ceil_mode: self.ceil_mode,
            quantizers: self.init_quantizers(device),
        }
    }

    fn window(&self) -> Window<3> {
        Window {
            kernel_size: self.kernel_size,
            stride: self.strides,
            dilation: self.dilation,
            padding: Padding::from(&self.padding),
        }
    }
}

impl Describe for MaxPool3dConfig {
    fn describe(&self) -> Description {
        Description::new("MaxPool3d").with_signs(Signs::OfInputs)
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

impl MaxPool3d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, depth, height, width]`
    /// - result: `[batch, channels, depth_out, height_out, width_out]`
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        let input = self.quantizers.input(input).quantized();
        let [_, _, size @ ..] = input.dims();
        let padding = self.window().pooling_padding(size, self.ceil_mode);
        let options = MaxPoolOptions::new(self.kernel_size)
            .with_stride(self.stride)
            .with_padding_pairs(padding)
            .with_dilation(self.dilation)
            .with_ceil_mode(self.ceil_mode);
        let output = ops::max_pool3d(input, options);
        self.quantizers.output(output)
    }

    fn window(&self) -> Window<3> {
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
            MaxPool3dConfig::new([2, 2, 2]).with_padding(PaddingConfig3d::Explicit(2, 0, 0));
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "MaxPool3d.padding: is 2, expected less than the window's reach, 2"
        );
    }

    /// The greatest of a cube of the numbers 0 to 7 is 7, wherever it lies.
    #[test]
    fn the_greatest_of_a_cube() {
        let device = Device::flex();
        let pool = MaxPool3dConfig::new([2, 2, 2]).init(&device);
        let cube = Tensor::<1>::from_floats([3.0, 1.0, 0.0, 2.0, 4.0, 7.0, 5.0, 6.0], &device);
        let y = pool.forward(cube.reshape([1, 1, 2, 2, 2]));
        assert_eq!(y.into_scalar::<f32>(), 7.0);
    }
}
