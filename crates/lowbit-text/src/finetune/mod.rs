//! Networks of folders trained on: on a text or on questions, with any plan of formats, and from a teacher.

mod language;
mod questions;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use lowbit::calibrate::calibrate;
use lowbit::config::QPlan;
use lowbit::models::Stored;
use lowbit::optim::{OptimizerConfig, OptimizerNumbers, Schedule};
use lowbit::quantizers::{Place, UNTRAINED_STEP, learned, set_rounding};
use lowbit::train::{
    Checkpoints, Interrupter, Objective, Progress, Recipe, Regularization, RunConfig, Setting,
    Start, Task, Trainer, softened,
};
use lowbit_formats::new_file::{self, holds_something};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use language::NextToken;
pub use questions::Spans;

use crate::folder::{CONFIG, copy_tokenizer};
use crate::models::{Architecture, Loaded, ModelConfig, QUANTIZERS, file, quantizers, tensors};
use crate::{Error, ModelFolder};

/// The file of a folder in the making that says what is made.
const OPTIONS: &str = "finetune.toml";
/// Where checkpoints are meanwhile.
const CHECKPOINTS: &str = "checkpoints";

/// Windows that calibration sees, at most.
const CALIBRATION: usize = 64;

/// What a network is trained on, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FineTune {
    /// The folder that the network comes from.
    pub model: PathBuf,
    /// A text, of a network that writes text; or questions in SQuAD's format, of one that answers them.
    pub data: PathBuf,
    /// The same to test with; without, the last tenth of `data`, which is not trained on then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// Times that it sees every window.
    pub epochs: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// Highest learning rate of what quantizers learn.
    pub threshold_lr: f64,
    /// What AdamW takes away of each weight in a step, times the rate.
    pub weight_decay: f32,
    /// Windows in a step.
    pub batch: usize,
    /// Tokens of a window, at most.
    pub length: usize,
    /// Tokens that windows of a context share.
    pub stride: usize,
    /// Where all randomness comes from.
    pub seed: u64,
    /// The folder of the network that it learns from, beside what is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// What both networks' scores are divided by.
    pub temperature: f64,
    /// How much of the loss is the teacher's, 0 to 1.
    pub distill_weight: f64,
    /// What is quantized.
    pub plan: QPlan,
}

/// The options of a folder in the making, and what the files were that they name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    /// SHA-256 of each file.
    files: BTreeMap<PathBuf, String>,
    options: FineTune,
}

/// What a teacher says is worth.
#[derive(Debug, Clone, Copy)]
pub struct Taught<'a, M> {
    /// The teacher, in its validation form.
    pub teacher: &'a M,
    /// What both networks' scores are divided by.
    pub temperature: f64,
    /// How much of the loss is the teacher's, 0 to 1.
    pub weight: f64,
}

impl<M> Taught<'_, M> {
    /// The loss with what the teacher says in it.
    fn loss(&self, loss: Tensor<1>, scores: Tensor<2>, theirs: Tensor<2>) -> Tensor<1> {
        softened(loss, scores, theirs, (self.weight, self.temperature))
    }
}

impl FineTune {
    /// What a folder that is not finished is made with.
    ///
    /// # Errors
    /// If it holds none, none that can be read, or is finished; or if a file that it names is another one now.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(OPTIONS);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        if folder.join(CONFIG).exists() {
            return Err(Error::file(folder, "is finished"));
        }
        let begun: Begun = toml::from_str(&text).map_err(|error| Error::file(&path, error))?;
        for (file, expected) in &begun.files {
            if sha256(file)? != *expected {
                let message = "is another file than when the folder was begun";
                return Err(Error::file(file, message));
            }
        }
        Ok(begun.options)
    }

    /// Begins a folder, which must not be there or be empty.
    ///
    /// # Errors
    /// If a number is out of its range, or the folder holds something.
    pub fn begin(&self, folder: &Path) -> Result<(), Error> {
        self.check()?;
        if holds_something(folder) {
            let message = "is not empty; expected a new folder, or --resume to go on with one that was stopped";
            return Err(Error::file(folder, message));
        }
        let begun = Begun {
            files: self.files()?,
            options: self.clone(),
        };
        let text = toml::to_string(&begun).map_err(|error| Error::field("plan", error))?;
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join(OPTIONS);
        new_file::write(&path, text.as_bytes()).map_err(Error::io(&path))
    }

    /// What the bits of the result depend on, and what each file is.
    fn files(&self) -> Result<BTreeMap<PathBuf, String>, Error> {
        let texts = [Some(&self.data), self.test.as_ref()];
        let mut all: BTreeSet<PathBuf> = texts.into_iter().flatten().cloned().collect();
        for folder in [Some(&self.model), self.teacher.as_ref()]
            .into_iter()
            .flatten()
        {
            for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
                let path = entry.map_err(Error::io(folder))?.path();
                let is_weights = path.extension().is_some_and(|end| end == "safetensors");
                let is_named = [CONFIG, "tokenizer.json"]
                    .iter()
                    .any(|name| path.ends_with(name));
                if is_weights || is_named {
                    all.insert(path);
                }
            }
        }
        let hashed = all
            .into_iter()
            .map(|path| Ok((path.clone(), sha256(&path)?)));
        hashed.collect()
    }

    /// Takes away what [`begin`](Self::begin) made, if nothing came of it.
    pub fn discard_unstarted(folder: &Path) {
        if !folder.join(CHECKPOINTS).exists() {
            // What cannot be removed is told by whoever begins there again.
            let _removed = fs::remove_file(folder.join(OPTIONS));
            let _removed = fs::remove_dir(folder);
        }
    }

    fn check(&self) -> Result<(), Error> {
        let counts = [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("length", self.length),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Error::field(field, "is 0, expected at least 1"));
        }
        for (field, lr) in [("lr", self.lr), ("threshold_lr", self.threshold_lr)] {
            if !(lr.is_finite() && lr > 0.0) {
                return Err(Error::field(field, format!("is {lr}, expected above 0")));
            }
        }
        let decay = self.weight_decay;
        if !(decay.is_finite() && decay >= 0.0) {
            let message = format!("is {decay}, expected 0 or more");
            return Err(Error::field("weight_decay", message));
        }
        let (temperature, weight) = (self.temperature, self.distill_weight);
        if !(temperature.is_finite() && temperature > 0.0) {
            let message = format!("is {temperature}, expected above 0");
            return Err(Error::field("temperature", message));
        }
        if !(0.0..=1.0).contains(&weight) {
            let message = format!("is {weight}, expected 0 to 1");
            return Err(Error::field("distill_weight", message));
        }
        let checked = self.plan.check();
        checked.map_err(|error| Error::field("plan", error))
    }

    /// Trains from the beginning, or from the last checkpoint of the folder, to the end, and writes there what
    /// [`ModelFolder`] and `transformers` read: `config.json`, `model.safetensors` in float32, the tokenizer's
    /// files, `plan.toml` if something is quantized, and `quantizers.safetensors` if quantizers learn something:
    /// what the model's own folder says of that, else what calibration on the first 64 windows sets, is where it
    /// begins. Returns whether it came to the end, or was interrupted.
    ///
    /// # Errors
    /// If a file cannot be read or written, the plan does not fit, or a loss is no number.
    pub fn run(
        &self,
        folder: &Path,
        device: &Device,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<bool, Error> {
        let model = ModelFolder::open(&self.model)?;
        let teacher = self.teacher.as_ref().map(ModelFolder::open).transpose()?;
        if let Some(teacher) = &teacher {
            self.check_teacher(&model, teacher)?;
        }
        let (most, length) = (model.config.positions(), self.length);
        if length > most {
            let message = format!("is {length}, the network knows {most} positions");
            return Err(Error::field("length", message));
        }
        let (autodiff, float) = (device.clone().autodiff(), QPlan::float());
        match &model.config.architecture {
            Architecture::Decoder(_) => {
                let loaded = model.language_model(&self.plan, &autodiff)?;
                let teacher = match &teacher {
                    Some(teacher) => Some(teacher.language_model(&float, device)?.network),
                    None => None,
                };
                let [train, test] = language::split(&model.tokenizer, self)?;
                let task = NextToken::new(train, test, length, self.taught(&teacher), device)?;
                self.train(loaded, task, &model, (folder, interrupter), progress)
            }
            Architecture::Encoder(_) => {
                let loaded = model.question_answering(&self.plan, &autodiff)?;
                let teacher = match &teacher {
                    Some(teacher) => Some(teacher.question_answering(&float, device)?.network),
                    None => None,
                };
                let task = Spans::read(&model.tokenizer, self, self.taught(&teacher), device)?;
                self.train(loaded, task, &model, (folder, interrupter), progress)
            }
        }
    }

    /// Whether a teacher says something of the same tokens.
    fn check_teacher(&self, model: &ModelFolder, teacher: &ModelFolder) -> Result<(), Error> {
        let refused = |message: String| {
            let path = self.teacher.as_ref().map(|path| path.display().to_string());
            let path = path.unwrap_or_default();
            Err(Error::field("teacher", format!("{path} {message}")))
        };
        let types = |folder: &ModelFolder| match &folder.config.architecture {
            Architecture::Encoder(config) => Some(config.types),
            Architecture::Decoder(_) => None,
        };
        let (ours, theirs) = (types(model), types(teacher));
        if ours.is_some() != theirs.is_some() {
            return refused(
                "answers questions or writes text, and the student does the other".into(),
            );
        }
        if !teacher.tokenizer.has_tokens_of(&model.tokenizer) {
            return refused("has other tokens than the student".into());
        }
        let [rows, rows_of_teacher] = [model, teacher].map(|folder| folder.config.vocabulary());
        if rows != rows_of_teacher || theirs < ours {
            return refused(format!(
                "has a vocabulary of {rows_of_teacher}, expected the student's, {rows}"
            ));
        }
        let (length, positions) = (self.length, teacher.config.positions());
        if positions < length {
            return refused(format!(
                "knows {positions} positions, windows have {length}"
            ));
        }
        Ok(())
    }

    fn taught<'a, M>(&self, teacher: &'a Option<M>) -> Option<Taught<'a, M>> {
        teacher.as_ref().map(|teacher| Taught {
            teacher,
            temperature: self.temperature,
            weight: self.distill_weight,
        })
    }

    fn train<M: Stored>(
        &self,
        loaded: Loaded<M>,
        task: impl Task<M>,
        model: &ModelFolder,
        (folder, interrupter): (&Path, &Interrupter),
        progress: &mut dyn Progress,
    ) -> Result<bool, Error> {
        let config = self.config();
        let checkpoints = Checkpoints::new(folder.join(CHECKPOINTS));
        let network = match checkpoints.last()? {
            Some(_) => loaded.network,
            None => self.calibrated(loaded, &task, progress)?,
        };
        let setting = Setting {
            task,
            batch: self.batch,
            seed: self.seed,
        };
        let mut trainer = Trainer::new(network, &config, setting).resume(&checkpoints)?;
        progress.start(&config, trainer.state().epoch, 0);
        while trainer.state().epoch < self.epochs {
            let epoch = trainer.epoch(interrupter, progress)?;
            trainer.save(&checkpoints)?;
            let Some(epoch) = epoch else {
                progress.interrupted(folder);
                return Ok(false);
            };
            progress.epoch(&epoch);
            progress.warn(&epoch.warnings);
        }
        self.write(folder, &trainer.model().valid(), model)?;
        let checkpoints = folder.join(CHECKPOINTS);
        fs::remove_dir_all(&checkpoints).map_err(Error::io(&checkpoints))?;
        Ok(true)
    }

    /// The network with what calibration sets and the model's folder does not say, from the first windows.
    fn calibrated<M: Stored>(
        &self,
        loaded: Loaded<M>,
        task: &impl Task<M>,
        progress: &mut dyn Progress,
    ) -> Result<M, Error> {
        let network = loaded.network;
        let missing = learned(&network).into_iter();
        let missing = missing.filter(|l| l.learned.calibrated && loaded.begun.contains(&l.key));
        let missing: BTreeSet<Place> = missing.map(|l| l.place).collect();
        if missing.is_empty() {
            return Ok(network);
        }
        set_rounding(self.seed, UNTRAINED_STEP);
        let windows: Vec<u32> = (0..task.examples().min(CALIBRATION) as u32).collect();
        let fresh = |place: &Place| missing.contains(place);
        let (network, found) =
            calibrate(network, fresh, |network| task.forward(network, &windows))?;
        progress.calibrated(&found);
        Ok(network)
    }

    /// Writes the folder.
    fn write<M: Stored>(
        &self,
        folder: &Path,
        network: &M,
        model: &ModelFolder,
    ) -> Result<(), Error> {
        let ModelConfig { family, inner, .. } = model.config;
        let mut all = tensors(network, family, inner);
        // What the network has no use for, such as a pooler, stays with it.
        for name in model.weights.names().filter(|name| family.is_other(name)) {
            if let Some(numbers) = model.weights.read(name)? {
                all.entry(name.into()).or_insert(numbers);
            }
        }
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            new_file::write(&path, bytes).map_err(Error::io(&path))
        };
        let has_head = all.contains_key("lm_head.weight");
        write("model.safetensors", &file(all))?;
        copy_tokenizer(&self.model, folder)?;
        if self.plan != QPlan::float() {
            write("plan.toml", self.plan.to_toml().as_bytes())?;
        }
        if let Some(learned) = quantizers(network) {
            write(QUANTIZERS, &learned)?;
        }
        // Last, so that a folder with it is whole.
        let path = self.model.join(CONFIG);
        let text = fs::read(&path).map_err(Error::io(&path))?;
        let mut config: Value =
            serde_json::from_slice(&text).map_err(|error| Error::file(&path, error))?;
        if let Some(config) = config.as_object_mut() {
            config.insert("torch_dtype".into(), "float32".into());
            config.remove("dtype");
            // Weights that were packed are not any more.
            config.remove("quantization_config");
            if has_head {
                config.insert("tie_word_embeddings".into(), false.into());
            }
        }
        write(CONFIG, format!("{config:#}\n").as_bytes())
    }

    /// How a trainer is told all that.
    fn config(&self) -> RunConfig {
        RunConfig {
            name: "finetune".into(),
            start: Start::Scratch,
            epochs: self.epochs,
            lr: self.lr,
            threshold_lr: self.threshold_lr,
            optimizer: OptimizerConfig::AdamW {
                weight_decay: self.weight_decay,
            },
            schedule: Schedule::OneCycle { warmup: 0.1 },
            objective: Objective::CrossEntropy,
            numbers: OptimizerNumbers::default(),
            loss_scale: None,
            clip_norm: Some(1.0),
            check_integers: false,
            regularization: Regularization::default(),
            swa: None,
            bit_budget: None,
            distillation: None,
            recipe: Recipe::default(),
            algorithms: Vec::new(),
            plan: self.plan.clone(),
        }
    }
}

/// SHA-256 of a file, in hexadecimal digits.
fn sha256(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let digest = Sha256::digest(&bytes);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
