//! One-dimensional average pooling.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig1d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`AvgPool1d`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct AvgPool1dConfig {
    /// Length of the window.
    pub kernel_size: usize,
    /// Step of the window; the window's size unless given.
    #[config(default = "kernel_size")]
    pub stride: usize,
    /// Padding around the input.
    #[config(default = "PaddingConfig1d::Valid")]
    pub padding: PaddingConfig1d,
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

/// The mean under each window. Built by [`AvgPool1dConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::AvgPool1dConfig;
///
/// let device = Device::flex();
/// let pool = AvgPool1dConfig::new(2).init(&device);
/// let y = pool.forward(Tensor::from_floats([[[1.0, 5.0, 2.0, 3.0]]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [3.0, 2.5]);
/// ```
#[derive(Module, Debug)]
pub struct AvgPool1d {
    /// Length of the window.
    pub kernel_size: usize,
    /// Step of the window.
    pub stride: usize,
    /// Padding around the input.
    #[module(skip)]
    pub padding: PaddingConfig1d,
    /// Whether padding counts in the mean.
    pub count_include_pad: bool,
    /// Whether a window that does not fit at the end counts.
    pub ceil_mode: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl AvgPool1dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> AvgPool1d {
        AvgPool1d {
            kernel_size: self.kernel_size,
            stride: self.stride,
            padding: self.padding.clone(),
            count_include_pad: self.count_include_pad,
            ceil_mode: self.ceil_mode,
            quantizers: self.init_quantizers(device),
        }
    }

    fn window(&self) -> Window<1> {
        Window {
            kernel_size: [self.kernel_size],
            stride: [self.stride],
            dilation: [1],
            padding: Padding::from(&self.padding),
        }
    }
}

impl Describe for AvgPool1dConfig {
    fn describe(&self) -> Description {
        Description::new("AvgPool1d")
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
        self.window().check_pooling("stride")
    }
}

impl AvgPool1d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, length]`
    /// - result: `[batch, channels, length_out]`
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let input = self.quantizers.input(input).quantized();
        let [_, _, size @ ..] = input.dims();
        let padding = self.window().pooling_padding(size, self.ceil_mode);
        let options = AvgPoolOptions::new([self.kernel_size])
            .with_stride([self.stride])
            .with_padding_pairs(padding)
            .with_count_include_pad(self.count_include_pad)
            .with_ceil_mode(self.ceil_mode);
        let output = ops::avg_pool1d(input, options);
        self.quantizers.output(output)
    }

    fn window(&self) -> Window<1> {
        Window {
            kernel_size: [self.kernel_size],
            stride: [self.stride],
            dilation: [1],
            padding: Padding::from(&self.padding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first window holds one place of padding and 4: 2 if it counts, 4 if not.
    #[test]
    fn padding_counts_or_not() {
        let device = Device::flex();
        for (counts, first) in [(true, 2.0), (false, 4.0)] {
            let pool = AvgPool1dConfig::new(2)
                .with_padding(PaddingConfig1d::Explicit(1, 0))
                .with_count_include_pad(counts)
                .init(&device);
            let y = pool.forward(Tensor::from_floats([[[4.0, 1.0, 3.0]]], &device));
            assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [first, 2.0]);
        }
    }
}
