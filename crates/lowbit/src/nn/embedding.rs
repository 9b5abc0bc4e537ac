//! Table of vectors.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Int, Tensor};

use crate::config::{Describe, Description, QConfig};
use crate::ops;
use crate::quantizers::{Channels, Quantizers, Slot};

/// Configuration of an [`Embedding`]; the fields of `burn::nn::EmbeddingConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct EmbeddingConfig {
    /// How many vectors there are.
    pub n_embedding: usize,
    /// Length of a vector.
    pub d_model: usize,
    /// How the vectors start; as Burn's, normal with variance 1.
    #[config(default = "Initializer::Normal{mean:0.0, std:1.0}")]
    pub initializer: Initializer,
    /// What is quantized; the slots are `weight` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// A quantized vector for each index. Built by [`EmbeddingConfig`]; parameter paths are those of
/// `burn::nn::Embedding`. The channels of the weight are the places in a vector.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::EmbeddingConfig;
///
/// let device = Device::flex();
/// let embedding = EmbeddingConfig::new(10, 4).init(&device);
/// let vectors = embedding.forward(Tensor::from_ints([[7, 0, 7]], &device));
/// assert_eq!(vectors.dims(), [1, 3, 4]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Embedding {
    /// `[n_embedding, d_model]`
    pub weight: Param<Tensor<2>>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl EmbeddingConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Embedding {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::EmbeddingConfig::new(self.n_embedding, self.d_model)
            .with_initializer(self.initializer.clone())
            .init(device);
        Embedding {
            weight: plain.weight,
            quantizers,
        }
    }
}

impl Describe for EmbeddingConfig {
    fn describe(&self) -> Description {
        Description {
            slots: vec![Slot::WEIGHT, Slot::OUTPUT, Slot::ERROR, Slot::GRADIENT],
            weight: Some(Channels {
                axis: 1,
                count: self.d_model,
            }),
            ..Description::new("Embedding")
        }
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

impl Embedding {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `indices`: `[batch, length]`, each from 0 to `n_embedding` less one
    /// - result: `[batch, length, d_model]`
    pub fn forward(&self, indices: Tensor<2, Int>) -> Tensor<3> {
        let weight = self.quantizers.weight(self.weight.val());
        self.quantizers.output(ops::embedding(weight, indices))
    }
}

impl ModuleDisplay for Embedding {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [n_embedding, d_model] = self.weight.dims();
        content
            .add("n_embedding", &n_embedding)
            .add("d_model", &d_model)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_picks_its_vector() {
        let device = Device::flex();
        let mut embedding = EmbeddingConfig::new(2, 2).init(&device);
        let weight = Tensor::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
        embedding.weight = Param::from_tensor(weight);
        let y = embedding.forward(Tensor::from_ints([[1, 0]], &device));
        assert_eq!(
            y.into_data().try_to_vec::<f32>().unwrap(),
            [3.0, 4.0, 1.0, 2.0]
        );
        let description = EmbeddingConfig::new(2, 2).describe();
        assert!(!description.has_slot("input") && description.sums.is_none());
    }
}
