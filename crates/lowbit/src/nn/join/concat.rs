//! Branches side by side.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Quantizers, Signs};

/// Configuration of a [`Concat`].
#[derive(Config, Debug)]
pub struct ConcatConfig {
    /// The dimension that grows; the channels unless given.
    #[config(default = 1)]
    pub dim: usize,
    /// What is quantized; `input` quantizes all branches with one quantizer, so that they share a
    /// scale, `output` the result.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Tensors joined along a dimension, such as the branches of an inception block.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::ConcatConfig;
///
/// let device = Device::flex();
/// let branches = [2, 3].map(|channels| Tensor::<4>::zeros([1, channels, 8, 8], &device));
/// let y = ConcatConfig::new().init(&device).forward(branches.into());
/// assert_eq!(y.dims(), [1, 5, 8, 8]);
/// ```
#[derive(Module, Debug)]
pub struct Concat {
    /// The dimension that grows.
    pub dim: usize,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl ConcatConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Concat {
        Concat {
            dim: self.dim,
            quantizers: self.init_quantizers(device),
        }
    }
}

impl Describe for ConcatConfig {
    fn describe(&self) -> Description {
        Description::new("Concat")
            .leaving_grid()
            .with_signs(Signs::OfInputs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Concat {
    /// Applies the layer to at least one tensor; the shapes are equal but for the dimension that
    /// grows.
    pub fn forward<const D: usize>(&self, branches: Vec<Tensor<D>>) -> Tensor<D> {
        let branches = branches
            .into_iter()
            .map(|branch| self.quantizers.input(branch))
            .collect();
        self.quantizers.output(ops::concat(branches, self.dim))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig};

    /// Both branches go through one quantizer: on a grid of quarters, 0.3 and 0.3 are 0.25 each.
    #[test]
    fn branches_share_a_quantizer() {
        let input =
            QuantizerConfig::Format(FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap()));
        let config = QConfig::new().with("input", input);
        let device = Device::flex();
        let layer = ConcatConfig::new()
            .with_quantization(config)
            .with_dim(0)
            .init(&device);
        let x = Tensor::<1>::from_floats([0.3], &device);
        let y = layer.forward(vec![x.clone(), x]);
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.25, 0.25]);
    }
}
