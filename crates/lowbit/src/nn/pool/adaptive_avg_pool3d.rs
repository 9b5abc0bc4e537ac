//! Average pooling of volumes to a given size.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::QConfig;
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`AdaptiveAvgPool3d`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct AdaptiveAvgPool3dConfig {
    /// Depth, height and width of the result.
    pub output_size: [usize; 3],
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// The mean over windows that divide the input into the given depth, height and width. Built by [`AdaptiveAvgPool3dConfig`].
#[derive(Module, Debug)]
pub struct AdaptiveAvgPool3d {
    /// Depth, height and width of the result.
    pub output_size: [usize; 3],
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl AdaptiveAvgPool3dConfig {
    /// Builds the layer.
    pub fn init(&self, device: &Device) -> AdaptiveAvgPool3d {
        AdaptiveAvgPool3d {
            output_size: self.output_size,
            quantizers: self.quantization.init(None, device),
        }
    }
}

impl AdaptiveAvgPool3d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, depth, height, width]`
    /// - result: `[batch, channels, depth_out, height_out, width_out]`
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        let input = self.quantizers.input(input).quantized();
        let output = ops::adaptive_avg_pool3d(input, self.output_size);
        self.quantizers.output(output)
    }
}
