//! Gated linear unit.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::Quantizers;

/// Configuration of a [`Glu`]; the field of `burn::nn::GLU`, and what is quantized.
#[derive(Config, Debug)]
pub struct GluConfig {
    /// The dimension that is halved; negative ones count from the end.
    pub dim: isize,
    /// What is quantized; the slots are `input`, `output` and `error`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `a sigmoid(b)` of the first half `a` and the second half `b` of a dimension (Dauphin et al., arXiv
/// 1612.08083, equation 1). Built by [`GluConfig`]; Burn's is `burn::nn::activation::GLU`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::GluConfig;
///
/// let device = Device::flex();
/// let layer = GluConfig::new(-1).init(&device);
/// let y = layer.forward(Tensor::<2>::from_floats([[3.0, 0.0]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [1.5]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Glu {
    /// The dimension that is halved.
    pub dim: isize,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl GluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Glu {
        Glu {
            dim: self.dim,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for GluConfig {
    fn describe(&self) -> Description {
        Description::new("Glu").leaving_grid()
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Glu {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: any, of an even size along `dim`
    /// - result: the same, half as large along `dim`
    ///
    /// # Panics
    /// If there is no such dimension, or its size is odd.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        self.quantizers.output(ops::glu(input, self.dim))
    }
}

impl ModuleDisplay for Glu {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content.add("dim", &self.dim).optional()
    }
}
