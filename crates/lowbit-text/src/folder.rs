//! A model's folder, as `transformers` writes it.

use std::path::Path;

use burn::tensor::Device;
use lowbit::config::QPlan;

use crate::models::{LanguageModel, Loaded, ModelConfig, QuestionAnswering};
use crate::{Error, Tokenizer, Weights};

/// `config.json`, the weights and the tokenizer of a model, which fit each other.
pub struct ModelFolder {
    /// What the network is.
    pub config: ModelConfig,
    /// Where its numbers are.
    pub weights: Weights,
    /// What makes numbers of text.
    pub tokenizer: Tokenizer,
}

impl ModelFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// If a file is missing or does not hold what it should, or the tokenizer has tokens that the network
    /// lacks.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        std::fs::read_dir(path).map_err(Error::io(path))?;
        let config = ModelConfig::read(&path.join("config.json"))?;
        let weights = Weights::open(path)?;
        let tokenizer = Tokenizer::open(path)?;
        tokenizer.check_vocabulary(config.vocabulary())?;
        Ok(Self {
            config,
            weights,
            tokenizer,
        })
    }

    /// The network that answers questions, quantized as `plan` says.
    ///
    /// # Errors
    /// As [`ModelConfig::question_answering`].
    pub fn question_answering(
        &self,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Loaded<QuestionAnswering>, Error> {
        self.config.question_answering(&self.weights, plan, device)
    }

    /// The network that writes text, quantized as `plan` says.
    ///
    /// # Errors
    /// As [`ModelConfig::language_model`].
    pub fn language_model(
        &self,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Loaded<LanguageModel>, Error> {
        self.config.language_model(&self.weights, plan, device)
    }
}
