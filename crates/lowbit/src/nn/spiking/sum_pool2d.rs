//! Two-dimensional sum pooling.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::window::{Padding, Window};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`SumPool2d`].
#[derive(Config, Debug)]
pub struct SumPool2dConfig {
    /// Height and width of the window.
    pub kernel_size: [usize; 2],
    /// Step of the window; the window's size unless given.
    #[config(default = "kernel_size")]
    pub strides: [usize; 2],
    /// Zeros above and below, and left and right.
    #[config(default = "[0, 0]")]
    pub padding: [usize; 2],
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The sum under each window: of spikes, their number. Built by [`SumPool2dConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::SumPool2dConfig;
///
/// let device = Device::flex();
/// let pool = SumPool2dConfig::new([2, 2]).init(&device);
/// let y = pool.forward(Tensor::from_floats([[[[1.0, 0.0], [1.0, 1.0]]]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [3.0]);
/// ```
#[derive(Module, Debug)]
pub struct SumPool2d {
    /// Height and width of the window.
    pub kernel_size: [usize; 2],
    /// Step of the window.
    pub stride: [usize; 2],
    /// Zeros above and below, and left and right.
    #[module(skip)]
    pub padding: [usize; 2],
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl SumPool2dConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> SumPool2d {
        SumPool2d {
            kernel_size: self.kernel_size,
            stride: self.strides,
            padding: self.padding,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for SumPool2dConfig {
    fn describe(&self) -> Description {
        Description::new("SumPool2d")
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
        let window = Window {
            kernel_size: self.kernel_size,
            stride: self.strides,
            dilation: [1, 1],
            padding: Padding::Explicit(self.padding.map(|zeros| (zeros, zeros))),
        };
        window.check_pooling("strides")
    }
}

impl SumPool2d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - result: `[batch, channels, height_out, width_out]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let input = self.quantizers.input(input).quantized();
        let output = ops::sum_pool2d(input, self.kernel_size, self.stride, self.padding);
        self.quantizers.output(output)
    }
}
