//! Weights of linear layers rounded to a format of few bits by what the layers read of a text, and written
//! packed.

mod decoder;
mod encoder;
mod rounding;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use lowbit::config::QPlan;
use lowbit_formats::new_file::{self, holds_something};
use lowbit_formats::{BlockFormat, Format};
use safetensors::tensor::Dtype;
use serde::Serialize;
use serde_json::Value;

use crate::folder::{CONFIG, TOKENIZER, copy_tokenizer};
use crate::models::{Architecture, Family, ModelConfig, QUANTIZERS, serialized, tensors};
use crate::packed::{self, Stored};
use crate::{Error, ModelFolder, Tokenizer};
use rounding::Rounder;

/// What is done to a model's weights.
#[derive(Debug, Clone)]
pub struct Compress {
    /// The folder of the model.
    pub model: PathBuf,
    /// What weights become, seen as `[out, in]`: a format with a packed layout.
    pub format: Format,
    /// How they are rounded.
    pub algorithm: Algorithm,
    /// A text that the layers are to read.
    pub text: Option<PathBuf>,
    /// Tokens of a window of it.
    pub length: usize,
    /// Windows, from the beginning, at most.
    pub windows: usize,
    /// Whether weights are written as numbers of the type that they had.
    pub unpacked: bool,
}

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Each to the nearest.
    #[default]
    Nearest,
    /// One column after the other ([`gptq_blocks`](lowbit::repair::gptq_blocks)).
    Gptq,
    /// To the nearest, of columns that were multiplied by what they read
    /// ([`awq_factors`](lowbit::repair::awq_factors)).
    Awq,
    /// The second after the third.
    AwqGptq,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nearest, Self::Gptq, Self::Awq, Self::AwqGptq];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Gptq => "gptq",
            Self::Awq => "awq",
            Self::AwqGptq => "awq-gptq",
        }
    }

    /// Whether columns are multiplied first.
    fn scales(self) -> bool {
        matches!(self, Self::Awq | Self::AwqGptq)
    }

    /// Whether they are rounded one after the other.
    fn makes_up(self) -> bool {
        matches!(self, Self::Gptq | Self::AwqGptq)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| {
            let message = format!("is `{text}`, expected nearest, gptq, awq or awq-gptq");
            Error::field("algorithm", message)
        })
    }
}

/// A weight that was rounded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rounded {
    /// The layer, as Lowbit calls it.
    pub layer: String,
    /// Of the layer's sums over the text, the square of the error over that of the signal, if each weight were
    /// rounded to the nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<f64>,
    /// The same of the weight as it was rounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

/// What came of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compressed {
    /// The weights, in the order of the network.
    pub layers: Vec<Rounded>,
    /// What is to be said of the model's folder, a line each.
    pub warnings: Vec<String>,
    /// Bytes of all safetensors files before.
    pub bytes_before: u64,
    /// Bytes of the new one.
    pub bytes: u64,
}

impl Compress {
    /// Rounds the weights and writes a new folder.
    ///
    /// Rounded are those of all linear layers but the head; everything else stays as it is, except the
    /// normalizations and linear layers before those whose columns were multiplied, which are divided by as much.
    /// Of a decoder, a layer reads what the layers before it make with their weights rounded; of an encoder, all
    /// read what the network in float makes.
    ///
    /// # Errors
    /// If the folder holds something, the format has no packed layout or its blocks do not divide a layer's
    /// inputs, the algorithm needs a text and has none or one that is shorter than a window, or is not for the
    /// network, or a file cannot be read or written.
    pub fn run(
        &self,
        folder: &Path,
        device: &Device,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Compressed, Error> {
        let format = packed::check(&self.format)?;
        if holds_something(folder) {
            return Err(Error::file(folder, "is not empty; expected a new folder"));
        }
        let model = ModelFolder::open(&self.model)?;
        self.check(&model)?;
        // Whether there can be a folder is known before the work.
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let made = self.make(&model, format, device, progress);
        let written = made.and_then(|(made, bytes)| {
            self.write(folder, &model, &bytes, format)?;
            Ok(made)
        });
        written.inspect_err(|_| discard(folder))
    }

    /// What came of the weights, and the file of all.
    fn make(
        &self,
        model: &ModelFolder,
        format: BlockFormat,
        device: &Device,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Compressed, Vec<u8>), Error> {
        let windows = self.batches(model, device)?;
        let mut rounder = Rounder::new(model, format, self, !windows.is_empty());
        let float = QPlan::float();
        let (all, mut warnings) = match &model.config.architecture {
            Architecture::Decoder(sizes) => {
                let loaded = model.language_model(&float, device)?;
                let warnings = loaded.warnings();
                let network =
                    decoder::round(loaded.network, sizes, &windows, &mut rounder, progress)?;
                (self.files(&network, model, &rounder)?, warnings)
            }
            Architecture::Encoder(_) => {
                let loaded = model.question_answering(&float, device)?;
                let warnings = loaded.warnings();
                let network = encoder::round(loaded.network, &windows, &mut rounder, progress)?;
                (self.files(&network, model, &rounder)?, warnings)
            }
        };
        if self.model.join(QUANTIZERS).exists() {
            let message = "is left out: what quantizers learned was of other weights";
            warnings.push(format!("{QUANTIZERS} {message}"));
        }
        let bytes = serialized(&all);
        let made = Compressed {
            layers: rounder.reports,
            warnings,
            bytes_before: model.weights.bytes()?,
            bytes: bytes.len() as u64,
        };
        Ok((made, bytes))
    }

    fn check(&self, model: &ModelFolder) -> Result<(), Error> {
        let (family, algorithm) = (model.config.family, self.algorithm);
        if family == Family::Gpt2 && !self.unpacked {
            let message = "linear layers of gpt2 are no Linear in transformers, whose loader reads packed weights \
                           of those alone; expected --unpacked";
            return Err(Error::field("model", message));
        }
        if algorithm.scales() && matches!(family, Family::Albert | Family::Bert) {
            let message = format!(
                "{algorithm} divides what a normalization makes, which an encoder adds up, too; expected nearest \
                 or gptq"
            );
            return Err(Error::field("algorithm", message));
        }
        if algorithm != Algorithm::Nearest && self.text.is_none() {
            let message = format!("is missing, which {algorithm} goes by");
            return Err(Error::field("text", message));
        }
        let (most, length) = (model.config.positions(), self.length);
        if !(3..=most).contains(&length) {
            let message = format!("is {length}, expected 3 to {most}, the network's positions");
            return Err(Error::field("length", message));
        }
        Ok(())
    }

    /// Windows of the text, some at a time, `[batch, length]`; none where there is no text.
    fn batches(&self, model: &ModelFolder, device: &Device) -> Result<Vec<Tensor<2, Int>>, Error> {
        let Some(path) = &self.text else {
            return Ok(Vec::new());
        };
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let encoded = model.tokenizer.encode(&text);
        let encoded = encoded.map_err(|error| Error::file(path, error))?;
        let own = encoded.ids.iter().zip(&encoded.special);
        let own = own
            .filter(|(_, special)| !**special)
            .map(|(&id, _)| id as i32);
        let own: Vec<i32> = own.collect();
        let around = around(&model.tokenizer, &model.config);
        let inside = self.length - around.iter().flatten().count();
        let chunks: Vec<&[i32]> = own.chunks_exact(inside).take(self.windows).collect();
        if chunks.is_empty() {
            let count = own.len();
            let message = format!("has {count} tokens, a window has {inside} of them");
            return Err(Error::file(path, message));
        }
        let at_once = (TOGETHER / self.length).max(1);
        let batch = |chunks: &[&[i32]]| {
            let row = |chunk: &&[i32]| {
                let [before, after] = around;
                let ids = before.into_iter().chain(chunk.iter().copied()).chain(after);
                ids.collect::<Vec<i32>>()
            };
            let ids: Vec<i32> = chunks.iter().flat_map(row).collect();
            Tensor::from_data(TensorData::new(ids, [chunks.len(), self.length]), device)
        };
        Ok(chunks.chunks(at_once).map(batch).collect())
    }

    /// The tensors of the new folder, by name.
    fn files<M: Module>(
        &self,
        network: &M,
        model: &ModelFolder,
        rounder: &Rounder<'_>,
    ) -> Result<BTreeMap<String, Stored>, Error> {
        let ModelConfig {
            family,
            inner,
            tied,
            ..
        } = model.config;
        let mut all = BTreeMap::new();
        let mut packed = BTreeSet::new();
        let rounded = rounder.weights.iter().filter(|_| !self.unpacked);
        for (path, weight) in rounded {
            let name = rounder.name(path);
            let layer = name.strip_suffix("weight").unwrap_or(&name);
            let parts = weight.parts().into_iter();
            all.extend(parts.map(|(part, stored)| (format!("{layer}{part}"), stored)));
            packed.insert(name);
        }
        for (name, numbers) in tensors(network, family, inner) {
            if packed.contains(&name) || tied && name == "lm_head.weight" {
                continue;
            }
            let dtype = model.weights.float(&name).unwrap_or(Dtype::F32);
            all.insert(name, numbers.stored(dtype));
        }
        // What the network has no use for, such as a pooler, stays with it.
        for name in model.weights.names().filter(|name| family.is_other(name)) {
            if let Some(numbers) = model.weights.read(name)? {
                let dtype = model.weights.float(name).unwrap_or(Dtype::F32);
                all.entry(name.into()).or_insert(numbers.stored(dtype));
            }
        }
        Ok(all)
    }

    fn write(
        &self,
        folder: &Path,
        model: &ModelFolder,
        weights: &[u8],
        format: BlockFormat,
    ) -> Result<(), Error> {
        let path = self.model.join(CONFIG);
        let text = fs::read(&path).map_err(Error::io(&path))?;
        let mut config: Value =
            serde_json::from_slice(&text).map_err(|error| Error::file(&path, error))?;
        if let Some(config) = config.as_object_mut() {
            config.remove("quantization_config");
            let heads = ["lm_head", "qa_outputs"].map(String::from);
            if let Some(quantization) = packed::config(&format, &heads).filter(|_| !self.unpacked) {
                config.insert("quantization_config".into(), quantization);
            }
        }
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            new_file::write(&path, bytes).map_err(Error::io(&path))
        };
        write(WEIGHTS, weights)?;
        copy_tokenizer(model.weights.folder(), folder)?;
        // Last, so that a folder with it is whole.
        write(CONFIG, format!("{config:#}\n").as_bytes())
    }
}

/// The file of the weights.
const WEIGHTS: &str = "model.safetensors";

/// Takes away what was begun in a folder that was empty.
fn discard(folder: &Path) {
    // What cannot be removed is told by whoever begins there again.
    let own = TOKENIZER.into_iter().chain([WEIGHTS, CONFIG]);
    own.for_each(|name| drop(fs::remove_file(folder.join(name))));
    let _removed = fs::remove_dir(folder);
}

/// Tokens that go through a network at once.
const TOGETHER: usize = 4096;

/// What stands before and after a text that an encoder reads.
fn around(tokenizer: &Tokenizer, config: &ModelConfig) -> [Option<i32>; 2] {
    let special = tokenizer.special();
    match config.architecture {
        Architecture::Encoder(_) => [special.cls, special.sep].map(|id| id.map(|id| id as i32)),
        Architecture::Decoder(_) => [None; 2],
    }
}
