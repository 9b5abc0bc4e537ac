//! One-dimensional max pooling.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig1d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`MaxPool1d`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct MaxPool1dConfig {
    /// Length of the window.
    pub kernel_size: usize,
    /// Step of the window; the window's size unless given.
    #[config(default = "kernel_size")]
    pub stride: usize,
    /// Padding around the input.
    #[config(default = "PaddingConfig1d::Valid")]
    pub padding: PaddingConfig1d,
    /// Spacing between window elements.
    #[config(default = "1")]
    pub dilation: usize,
    /// Whether a window that does not fit at the end counts.
    #[config(default = false)]
    pub ceil_mode: bool,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The largest value under each window. Built by [`MaxPool1dConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::MaxPool1dConfig;
///
/// let device = Device::flex();
/// let pool = MaxPool1dConfig::new(2).init(&device);
/// let y = pool.forward(Tensor::from_floats([[[1.0, 5.0, 2.0, 3.0]]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [5.0, 3.0]);
/// ```
#[derive(Module, Debug)]
pub struct MaxPool1d {
    /// Length of the window.
    pub kernel_size: usize,
    /// Step of the window.
    pub stride: usize,
    /// Padding around the input.
    #[module(skip)]
    pub padding: PaddingConfig1d,
    /// Spacing between window elements.
    pub dilation: usize,
    /// Whether a window that does not fit at the end counts.
    pub ceil_mode: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl MaxPool1dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> MaxPool1d {
        MaxPool1d {
            kernel_size: self.kernel_size,
            stride: self.stride,
            padding: self.padding.clone(),
            dilation: self.dilation,
            ceil_mode: self.ceil_mode,
            quantizers: self.init_quantizers(device),
        }
    }

    fn window(&self) -> Window<1> {
        Window {
            kernel_size: [self.kernel_size],
            stride: [self.stride],
            dilation: [self.dilation],
            padding: Padding::from(&self.padding),
        }
    }
}

impl Describe for MaxPool1dConfig {
    fn describe(&self) -> Description {
        Description::new("MaxPool1d").with_signs(Signs::OfInputs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        self.window().check_pooling("stride")
    }
}

impl MaxPool1d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, length]`
    /// - result: `[batch, channels, length_out]`
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let input = self.quantizers.input(input).quantized();
        let [_, _, size @ ..] = input.dims();
        let padding = self.window().pooling_padding(size, self.ceil_mode);
        let options = MaxPoolOptions::new([self.kernel_size])
            .with_stride([self.stride])
            .with_padding_pairs(padding)
            .with_dilation([self.dilation])
            .with_ceil_mode(self.ceil_mode);
        let output = ops::max_pool1d(input, options);
        self.quantizers.output(output)
    }

    fn window(&self) -> Window<1> {
        Window {
            kernel_size: [self.kernel_size],
            stride: [self.stride],
            dilation: [self.dilation],
            padding: Padding::from(&self.padding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows two apart over -1, -2, -3, -4 with one place of padding on either side, which is no
    /// number and never the greatest.
    #[test]
    fn padding_is_never_the_greatest() {
        let device = Device::flex();
        let pool = MaxPool1dConfig::new(2)
            .with_padding(PaddingConfig1d::Explicit(1, 1))
            .init(&device);
        let y = pool.forward(Tensor::from_floats([[[-1.0, -2.0, -3.0, -4.0]]], &device));
        assert_eq!(
            y.into_data().try_to_vec::<f32>().unwrap(),
            [-1.0, -2.0, -4.0]
        );
    }

    /// Three taps two apart reach over 5, so that `Same` adds two places on either side.
    #[test]
    fn same_padding_counts_the_dilation() {
        let device = Device::flex();
        let pool = MaxPool1dConfig::new(3)
            .with_stride(1)
            .with_dilation(2)
            .with_padding(PaddingConfig1d::Same)
            .init(&device);
        let x = Tensor::from_floats([[[1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0]]], &device);
        let y = pool.forward(x).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(y, [1.0, 2.0, 1.0, 2.0, 3.0, 2.0, 3.0]);
    }
}
