//! Networks with their heads.

use burn::module::Module;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::decoder::INITIALIZER;
use super::{Cache, Decoder, DecoderConfig, Encoder, EncoderConfig, EncoderInput};
use crate::Error;
use crate::config::Planner;
use crate::models::Stored;
use crate::nn::{Linear, LinearConfig};

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

impl QuestionAnswering {
    /// Builds the network with weights that are drawn. The last layer of the plan is `outputs`, the first
    /// `encoder.word`.
    ///
    /// # Errors
    /// As [`Planner::layer`].
    pub fn init_planned(
        config: &EncoderConfig,
        planner: &mut Planner<'_>,
        device: &Device,
    ) -> Result<Self, Error> {
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
    /// Builds the network with weights that are drawn. The last layer of the plan is `head`, the first
    /// `decoder.word`.
    ///
    /// # Errors
    /// As [`Planner::layer`].
    pub fn init_planned(
        config: &DecoderConfig,
        planner: &mut Planner<'_>,
        device: &Device,
    ) -> Result<Self, Error> {
        let decoder = config.init_planned(planner, "decoder", device)?;
        let head = LinearConfig::new(config.d_model, config.vocabulary)
            .with_bias(false)
            .with_initializer(INITIALIZER);
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

/// Gives a network its parameters as a file holds them.
macro_rules! stored {
    ($network:ty) => {
        impl Stored for $network {
            fn stored(&self) -> ModuleRecord {
                self.clone().into_record()
            }

            fn restored(self, record: ModuleRecord) -> Result<Self, RecordError> {
                self.try_load_record(record)
            }
        }
    };
}

stored!(QuestionAnswering);
stored!(LanguageModel);
