//! Experiments on disk: a folder with the complete configuration, and in it a folder per run with
//! metrics, checkpoints and the result.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, Checkpoints};
use super::files::write_atomic;
use super::trainer::{Setting, Trainer, evaluate};
use super::{Experiment, Interrupter, Progress, RunConfig, Start};
use crate::Error;
use crate::calibrate::calibrate;
use crate::data::Split;
use crate::models::{Classifier, Network, model_bits};

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const RESULT: &str = "result.json";
const CHECKPOINTS: &str = "checkpoints";

/// Images that thresholds are calibrated with.
const CALIBRATION_IMAGES: usize = 1024;

/// One line of a run's metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Learning rate of the weights at its end.
    pub lr: f64,
    /// Mean loss of the training images, as they were trained on.
    pub train_loss: f64,
    /// Fraction of them that was right.
    pub train_accuracy: f64,
    /// Mean loss of the test images after the epoch.
    pub test_loss: f64,
    /// Fraction of them that is right.
    pub test_accuracy: f64,
    /// Seconds since the start of the run, without interruptions.
    pub seconds: f64,
}

/// What a finished run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Its name.
    pub name: String,
    /// Fraction of the test images that is right after the last epoch.
    pub accuracy: f64,
    /// Their mean loss.
    pub loss: f64,
    /// The epoch with the highest accuracy, counted from 1.
    pub best_epoch: usize,
    /// Its accuracy.
    pub best_accuracy: f64,
    /// Seconds that the run took, tests and checkpoints included.
    pub seconds: f64,
    /// Training images over the seconds spent in training steps.
    pub images_per_second: f64,
    /// Bits that the parameters take.
    pub model_bits: u64,
    /// Epochs.
    pub epochs: usize,
}

/// How an experiment ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All runs are finished.
    Finished(Vec<RunResult>),
    /// It was stopped; the runs so far, and the name of the one that was under way.
    Interrupted(Vec<RunResult>, String),
}

/// The folder of an experiment.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// A new folder, which holds `experiment` as `config.toml` from here on.
    ///
    /// # Errors
    /// If the folder already holds something.
    pub fn create(path: impl Into<PathBuf>, experiment: &Experiment) -> Result<Self, Error> {
        let path = path.into();
        if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            let message = "already holds something; --resume goes on with it".into();
            return Err(Error::Checkpoint { path, message });
        }
        fs::create_dir_all(&path).map_err(Error::io(&path))?;
        write_atomic(&path.join(CONFIG), experiment.to_toml().as_bytes())?;
        Ok(Self { path })
    }

    /// An existing folder and the experiment in it.
    ///
    /// # Errors
    /// If it is not such a folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<(Self, Experiment), Error> {
        let path = path.into();
        let config = path.join(CONFIG);
        let text = fs::read_to_string(&config).map_err(|_| Error::Checkpoint {
            path: path.clone(),
            message: format!("is not the folder of a run: it has no {CONFIG}"),
        })?;
        let experiment = Experiment::from_toml(&config, &text)?;
        Ok((Self { path }, experiment))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoints of a run.
    pub fn checkpoints(&self, run: &str) -> Checkpoints {
        Checkpoints::new(self.path.join(run).join(CHECKPOINTS))
    }

    /// The result of a run, if it is finished.
    pub fn result(&self, run: &str) -> Result<Option<RunResult>, Error> {
        let path = self.path.join(run).join(RESULT);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(Error::io(&path))?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Error::Checkpoint {
                path,
                message: error.to_string(),
            })
    }

    /// Trains every run that is not finished, from where it stands.
    pub fn train(
        &self,
        experiment: &Experiment,
        split: &Split,
        device: &Device,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<Outcome, Error> {
        let mut results = Vec::new();
        for run in &experiment.runs {
            let result = match self.result(&run.name)? {
                Some(result) => Some(result),
                None => self.train_run(experiment, run, split, device, interrupter, progress)?,
            };
            match result {
                Some(result) => results.push(result),
                None => return Ok(Outcome::Interrupted(results, run.name.clone())),
            }
        }
        Ok(Outcome::Finished(results))
    }

    fn train_run(
        &self,
        experiment: &Experiment,
        run: &RunConfig,
        split: &Split,
        device: &Device,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<Option<RunResult>, Error> {
        let folder = self.path.join(&run.name);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let checkpoints = self.checkpoints(&run.name);
        let setting = Setting {
            split,
            batch: experiment.batch,
            augment: split_augment(experiment),
            seed: experiment.seed,
            device,
        };
        let model = build(experiment, run, split, &device.clone().autodiff())?;
        let mut trainer = if checkpoints.last()?.is_some() {
            Trainer::new(model, run, setting).resume(&checkpoints)?
        } else {
            let model = self.first_weights(model, experiment, run)?;
            let model = calibrated(model, run, split, experiment.seed, device, progress)?;
            Trainer::new(model, run, setting)
        };
        let mut metrics = Metrics::open(&folder.join(METRICS), trainer.state().epoch)?;
        progress.start(run, trainer.state().epoch);
        while trainer.state().epoch < run.epochs {
            let Some(epoch) = trainer.epoch(interrupter, progress) else {
                trainer.save(&checkpoints)?;
                progress.interrupted(&folder);
                return Ok(None);
            };
            metrics.push(&epoch)?;
            trainer.save(&checkpoints)?;
            progress.epoch(&epoch);
        }
        let result = metrics.result(&trainer, run, split)?;
        let text = serde_json::to_vec_pretty(&result).expect("a result holds only numbers");
        write_atomic(&folder.join(RESULT), &text)?;
        Ok(Some(result))
    }

    /// The network with the weights that the run starts from.
    fn first_weights(
        &self,
        model: Network,
        experiment: &Experiment,
        run: &RunConfig,
    ) -> Result<Network, Error> {
        let best = match run.start {
            Start::Scratch => return Ok(model),
            Start::From => {
                let from = experiment
                    .from
                    .as_ref()
                    .expect("a checked experiment names it");
                best_checkpoint(from)?
            }
            Start::First => {
                let first = &experiment.runs[0].name;
                self.checkpoints(first)
                    .best()?
                    .ok_or_else(|| no_checkpoint(&self.path))?
            }
        };
        checkpoint::load_weights(model, &best)
    }
}

/// The augmentation that an experiment asks for.
fn split_augment(experiment: &Experiment) -> Option<crate::data::Augment> {
    experiment.data.augment().filter(|_| experiment.augment)
}

/// The network of a run, its parameters drawn from the experiment's seed.
fn build(
    experiment: &Experiment,
    run: &RunConfig,
    split: &Split,
    device: &Device,
) -> Result<Network, Error> {
    let set = &split.train;
    let input = [set.channels, set.height, set.width];
    experiment
        .model
        .init(input, set.classes, &run.plan, experiment.seed, device)
}

/// The network with its thresholds set, where it has any.
fn calibrated(
    model: Network,
    run: &RunConfig,
    split: &Split,
    seed: u64,
    device: &Device,
    progress: &mut dyn Progress,
) -> Result<Network, Error> {
    let order = crate::data::epoch_order(split.train.len(), seed, u32::MAX);
    let images = &order[..order.len().min(CALIBRATION_IMAGES)];
    let (model, thresholds) = calibrate(model, |model: &Network| {
        for indices in images.chunks(256) {
            model.forward(super::trainer::batch(&split.train, indices, None, device).images);
        }
    })
    .map_err(|error| error.within(&run.name))?;
    if !thresholds.is_empty() {
        progress.calibrated(&thresholds);
    }
    Ok(model)
}

/// The checkpoint with the best weights under `path`, which is the folder of a run, or of an
/// experiment with one run or with one called `float`.
pub fn best_checkpoint(path: &Path) -> Result<PathBuf, Error> {
    let (folder, run, _) = find_run(path)?;
    folder
        .checkpoints(&run)
        .best()?
        .ok_or_else(|| no_checkpoint(&folder.path.join(run)))
}

/// The run that `path` means: the folder it is in, its name, and the folder's experiment.
pub fn find_run(path: &Path) -> Result<(RunFolder, String, Experiment), Error> {
    if path.join(CHECKPOINTS).is_dir() {
        let parent = path.parent().unwrap_or(Path::new("."));
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let (folder, experiment) = RunFolder::open(parent)?;
        let absolute = path.canonicalize().map_err(Error::io(path))?;
        let name = absolute
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Ok((folder, name, experiment));
    }
    let (folder, experiment) = RunFolder::open(path)?;
    let names: Vec<&str> = experiment
        .runs
        .iter()
        .map(|run| run.name.as_str())
        .collect();
    let name = match names[..] {
        [only] => only,
        _ if names.contains(&"float") => "float",
        _ => {
            let message = format!("holds several runs; name one of {}", names.join(", "));
            return Err(Error::Checkpoint {
                path: path.into(),
                message,
            });
        }
    };
    let name = name.to_string();
    Ok((folder, name, experiment))
}

fn no_checkpoint(path: &Path) -> Error {
    Error::Checkpoint {
        path: path.into(),
        message: "has no checkpoint of a finished epoch".into(),
    }
}

/// Loss and accuracy of a run's checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// The run's name.
    pub name: String,
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Fraction of the test images that is right.
    pub accuracy: f64,
    /// Their mean loss.
    pub loss: f64,
    /// Test images.
    pub images: u64,
    /// Bits that the parameters take.
    pub model_bits: u64,
}

/// Tests the best or the last checkpoint of a run on the test images.
pub fn evaluate_run(
    folder: &RunFolder,
    experiment: &Experiment,
    name: &str,
    last: bool,
    split: &Split,
    device: &Device,
) -> Result<Evaluation, Error> {
    let run = experiment
        .runs
        .iter()
        .find(|run| run.name == name)
        .ok_or_else(|| Error::Checkpoint {
            path: folder.path.clone(),
            message: format!("has no run `{name}`"),
        })?;
    let checkpoints = folder.checkpoints(name);
    let path = if last {
        checkpoints.last()?
    } else {
        checkpoints.best()?
    };
    let path = path.ok_or_else(|| no_checkpoint(&folder.path.join(name)))?;
    let model = build(experiment, run, split, device)?;
    let model = checkpoint::load_model(model, &path)?.valid();
    let sums = evaluate(&model, &split.test, device);
    Ok(Evaluation {
        name: name.into(),
        checkpoint: path,
        accuracy: sums.accuracy(),
        loss: sums.mean_loss(),
        images: sums.images,
        model_bits: model_bits(&model),
    })
}

/// A run's metrics, one JSON object a line.
struct Metrics {
    path: PathBuf,
    last: Option<EpochMetrics>,
}

impl Metrics {
    /// Opens the file and drops the lines after `epoch`, which a run that was killed may have
    /// written before it could save its checkpoint.
    fn open(path: &Path, epoch: usize) -> Result<Self, Error> {
        let text = if path.exists() {
            fs::read_to_string(path).map_err(Error::io(path))?
        } else {
            String::new()
        };
        let mut kept = String::new();
        let mut last = None;
        for line in text.lines() {
            // A line that was cut short is one of those to drop.
            let Ok(metrics) = serde_json::from_str::<EpochMetrics>(line) else {
                continue;
            };
            if metrics.epoch <= epoch {
                kept += line;
                kept.push('\n');
                last = Some(metrics);
            }
        }
        write_atomic(path, kept.as_bytes())?;
        Ok(Self {
            path: path.into(),
            last,
        })
    }

    fn push(&mut self, metrics: &EpochMetrics) -> Result<(), Error> {
        let mut line = serde_json::to_string(metrics).expect("metrics hold only numbers");
        line.push('\n');
        fs::OpenOptions::new()
            .append(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(Error::io(&self.path))?;
        self.last = Some(metrics.clone());
        Ok(())
    }

    fn result(
        &self,
        trainer: &Trainer<'_, Network>,
        run: &RunConfig,
        split: &Split,
    ) -> Result<RunResult, Error> {
        let (Some(last), Some(best)) = (&self.last, trainer.state().best) else {
            let message = "lacks the metrics of the last epoch".into();
            return Err(Error::Checkpoint {
                path: self.path.clone(),
                message,
            });
        };
        let images = (split.train.len() * run.epochs) as f64;
        Ok(RunResult {
            name: run.name.clone(),
            accuracy: last.test_accuracy,
            loss: last.test_loss,
            best_epoch: best.epoch,
            best_accuracy: best.accuracy,
            seconds: trainer.state().seconds,
            images_per_second: images / trainer.state().step_seconds,
            model_bits: model_bits(trainer.model()),
            epochs: run.epochs,
        })
    }
}
