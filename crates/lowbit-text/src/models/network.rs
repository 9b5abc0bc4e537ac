//! Networks with their heads.

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};
use lowbit::config::{Planner, QPlan};
use lowbit::nn::{Linear, LinearConfig};

use super::load::load;
use super::{
    Architecture, Cache, Decoder, DecoderConfig, Encoder, EncoderConfig, EncoderInput, Loaded,
    ModelConfig,
};
use crate::Error;
use crate::weights::Weights;

/// An encoder that says of each position how likely an answer starts and ends there.
#[derive(Module, Debug)]
pub struct QuestionAnswering {
    /// Of the positions.
    pub encoder: Encoder,
    /// To the two scores.
    pub outputs: Linear,
}

/// A decoder that says of each position how likely each token follows.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// Of the positions.
    pub decoder: Decoder,
    /// To a score for each token.
    pub head: Linear,
}

/// The error of a folder whose network has no such head.
fn of_another_kind(weights: &Weights, message: &str) -> Error {
    let file = weights.folder().join("config.json");
    Error::file(file, Error::field("model_type", message))
}

impl QuestionAnswering {
    /// The network of a folder with the weights of its files, quantized as `plan` says; the last layer of
    /// the plan is `outputs`, the first `encoder.word`.
    ///
    /// # Errors
    /// If the folder's network is a decoder, the plan does not fit, or the weights do not.
    pub fn load(
        config: &ModelConfig,
        weights: &Weights,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Loaded<Self>, Error> {
        let Architecture::Encoder(sizes) = &config.architecture else {
            let message = "is of a language model, expected albert or bert, which answer questions";
            return Err(of_another_kind(weights, message));
        };
        let init = |planner: &mut Planner<'_>| Self::init_planned(sizes, planner, device);
        load(init, config, weights, plan)
    }

    /// Builds the network with weights that are drawn.
    ///
    /// # Errors
    /// As [`Planner::layer`].
    pub fn init_planned(
        config: &EncoderConfig,
        planner: &mut Planner<'_>,
        device: &Device,
    ) -> Result<Self, lowbit::Error> {
        let encoder = config.init_planned(planner, "encoder", device)?;
        let outputs = planner.last("outputs", LinearConfig::new(config.d_model, 2))?;
        Ok(Self {
            encoder,
            outputs: outputs.init(device),
        })
    }

    /// Scores of starts and of ends.
    ///
    /// # Shapes
    /// results: `[batch, length]`
    pub fn forward(&self, input: EncoderInput) -> [Tensor<2>; 2] {
        let scores = self.outputs.forward(self.encoder.forward(input));
        [0, 1].map(|which| scores.clone().narrow(2, which, 1).squeeze_dim(2))
    }
}

impl LanguageModel {
    /// The network of a folder with the weights of its files, quantized as `plan` says; the last layer of
    /// the plan is `head`, the first `decoder.word`. A head that shares the table of tokens has weights of
    /// its own here, equal to the table's.
    ///
    /// # Errors
    /// If the folder's network is an encoder, the plan does not fit, or the weights do not.
    pub fn load(
        config: &ModelConfig,
        weights: &Weights,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Loaded<Self>, Error> {
        let Architecture::Decoder(sizes) = &config.architecture else {
            let message =
                "is of an encoder, expected gpt2, llama, mistral or qwen2, which write text";
            return Err(of_another_kind(weights, message));
        };
        let init = |planner: &mut Planner<'_>| Self::init_planned(sizes, planner, device);
        load(init, config, weights, plan)
    }

    /// Builds the network with weights that are drawn.
    ///
    /// # Errors
    /// As [`Planner::layer`].
    pub fn init_planned(
        config: &DecoderConfig,
        planner: &mut Planner<'_>,
        device: &Device,
    ) -> Result<Self, lowbit::Error> {
        let decoder = config.init_planned(planner, "decoder", device)?;
        let head = LinearConfig::new(config.d_model, config.vocabulary).with_bias(false);
        let head = planner.last("head", head)?;
        Ok(Self {
            decoder,
            head: head.init(device),
        })
    }

    /// Scores of what follows each position; see [`Decoder::forward`].
    ///
    /// # Shapes
    /// result: `[batch, length, vocabulary]`
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
        cache: &mut Cache,
    ) -> Tensor<3> {
        self.head
            .forward(self.decoder.forward(tokens, padding, cache))
    }
}
