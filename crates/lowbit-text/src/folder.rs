//! A model's folder, as `transformers` writes it.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use lowbit::config::QPlan;
use lowbit_formats::new_file;

use crate::models::{LanguageModel, Loaded, ModelConfig, QuestionAnswering};
use crate::{Error, Tokenizer, Weights};

/// The file that says what the network is.
pub(crate) const CONFIG: &str = "config.json";

/// The files of a tokenizer.
pub(crate) const TOKENIZER: [&str; 3] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// Copies the files of a tokenizer that are there from one folder to another.
pub(crate) fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), Error> {
    for name in TOKENIZER {
        let (from, to) = (from.join(name), to.join(name));
        if from.exists() {
            let bytes = fs::read(&from).map_err(Error::io(&from))?;
            new_file::write(&to, &bytes).map_err(Error::io(&to))?;
        }
    }
    Ok(())
}

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
        fs::read_dir(path).map_err(Error::io(path))?;
        let config = ModelConfig::read(&path.join(CONFIG))?;
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
