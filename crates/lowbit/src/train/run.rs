//! Experiments on disk: a folder with the complete configuration, and in it a folder per run with
//! metrics, checkpoints and the result.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, Checkpoints, Sums};
use super::evaluation::{best_checkpoint, no_checkpoint};
use super::metrics::MetricsFile;
use super::trainer::{Setting, Trainer, batch};
use super::{Experiment, Interrupter, Progress, RunConfig, Start};
use crate::Error;
use crate::calibrate::calibrate;
use crate::data::{Split, epoch_order};
use crate::files::write_atomic;
use crate::models::{Classifier, LoadReport, Network, Tolerance, model_bits};
use crate::quantizers::{Place, UNTRAINED_STEP, learned, set_rounding};

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const RESULT: &str = "result.json";
pub(super) const CHECKPOINTS: &str = "checkpoints";

/// Images in a batch of calibration.
const CALIBRATION_BATCH: usize = 256;

/// What a finished run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Its name.
    pub name: String,
    /// Fraction of the test images that is right after the last epoch.
    pub accuracy: f64,
    /// Their mean loss.
    pub loss: f64,
    /// The epoch with the highest accuracy, counted from 1; 0 where nothing was trained.
    pub best_epoch: usize,
    /// Its accuracy.
    pub best_accuracy: f64,
    /// Seconds spent in training and in the tests between epochs.
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
        // A run that was killed at birth left its configuration half written.
        let unfinished = |entry: &fs::DirEntry| entry.file_name() == "config.tmp";
        let holds_something =
            |entries: fs::ReadDir| entries.flatten().any(|entry| !unfinished(&entry));
        if fs::read_dir(&path).is_ok_and(holds_something) {
            let message = if path.join(CONFIG).is_file() {
                let path = path.display();
                format!("already holds a run; to go on with it: lowbit train --resume --out {path}")
            } else {
                "already holds something, expected a new or an empty folder".into()
            };
            return Err(Error::Checkpoint { path, message });
        }
        fs::create_dir_all(&path).map_err(Error::io(&path))?;
        write_atomic(&path.join(CONFIG), experiment.to_toml()?.as_bytes())?;
        Ok(Self { path })
    }

    /// An existing folder and the experiment in it.
    ///
    /// # Errors
    /// If it is not such a folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<(Self, Experiment), Error> {
        let path = path.into();
        let config = path.join(CONFIG);
        fs::metadata(&path).map_err(Error::io(&path))?;
        let text = fs::read_to_string(&config).map_err(|_| Error::Checkpoint {
            path: path.clone(),
            message: format!("is not the folder of a run: it has no {CONFIG}"),
        })?;
        let experiment = Experiment::from_toml(&config, &text)?;
        Ok((Self { path }, experiment))
    }

    /// Takes the folder away if no run in it came as far as a checkpoint or a metric, so that a
    /// mistake can be mended and tried again under the same name.
    pub fn discard_unstarted(self) {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        // Only an empty folder can be removed: what holds anything stays, and then so does the
        // configuration.
        let (config, runs): (Vec<PathBuf>, Vec<PathBuf>) = entries
            .flatten()
            .map(|entry| entry.path())
            .partition(|path| path.ends_with(CONFIG));
        if runs.iter().all(|run| fs::remove_dir(run).is_ok()) {
            for path in config {
                let _ = fs::remove_file(path);
            }
            let _ = fs::remove_dir(&self.path);
        }
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
            augment: experiment.data.augment().filter(|_| experiment.augment),
            seed: experiment.seed,
            device,
        };
        let model = build(experiment, run, split, &device.clone().autodiff())?;
        let mut trainer = if checkpoints.last()?.is_some() {
            Trainer::new(model, run, setting).resume(&checkpoints)?
        } else {
            let (model, report) = self.first_weights(model, experiment, run)?;
            progress.loaded(&report);
            let images = experiment.calibration_images;
            let model = calibrated(model, &report.loaded, run, images, &setting, progress)?;
            Trainer::new(model, run, setting)
        };
        if run.epochs == 0 {
            progress.start(run, 0);
            let tested = trainer.test()?;
            trainer.save(&checkpoints)?;
            let result = untrained(run, &tested, trainer.model());
            return write_result(&folder, result).map(Some);
        }
        let mut metrics = MetricsFile::open(&folder.join(METRICS), trainer.state().epoch)?;
        progress.start(run, trainer.state().epoch);
        while trainer.state().epoch < run.epochs {
            let Some(epoch) = trainer.epoch(interrupter, progress)? else {
                trainer.save(&checkpoints)?;
                progress.interrupted(&folder);
                return Ok(None);
            };
            metrics.push(&epoch)?;
            trainer.save(&checkpoints)?;
            progress.epoch(&epoch);
        }
        let result = result(&metrics, &trainer, run, split).ok_or_else(|| Error::Checkpoint {
            path: folder.join(METRICS),
            message: "lacks the metrics of the last epoch".into(),
        })?;
        write_result(&folder, result).map(Some)
    }

    /// The network with the weights that the run starts from, and what was loaded.
    fn first_weights(
        &self,
        model: Network,
        experiment: &Experiment,
        run: &RunConfig,
    ) -> Result<(Network, LoadReport), Error> {
        match run.start {
            Start::Scratch => Ok((model, LoadReport::default())),
            Start::From => {
                let from = experiment.from.as_ref();
                let from = from.expect("a checked experiment names it");
                let weights = match from.is_file() {
                    true => from.clone(),
                    false => best_checkpoint(from)?,
                };
                checkpoint::load_weights(model, &weights, experiment.accept)
            }
            Start::First => {
                let first = &experiment.runs[0].name;
                let best = self.checkpoints(first).best()?;
                let best = best.ok_or_else(|| no_checkpoint(&self.path))?;
                checkpoint::load_weights(model, &best, Tolerance::default())
            }
        }
    }
}

fn write_result(folder: &Path, result: RunResult) -> Result<RunResult, Error> {
    let text = serde_json::to_vec_pretty(&result).expect("a result holds only numbers");
    write_atomic(&folder.join(RESULT), &text)?;
    Ok(result)
}

/// The result of a run that trains nothing.
fn untrained(run: &RunConfig, tested: &Sums, model: &Network) -> RunResult {
    RunResult {
        name: run.name.clone(),
        accuracy: tested.accuracy(),
        loss: tested.mean_loss(),
        best_epoch: 0,
        best_accuracy: tested.accuracy(),
        seconds: 0.0,
        images_per_second: 0.0,
        model_bits: model_bits(model),
        epochs: 0,
    }
}

/// The network of a run, its parameters drawn from the experiment's seed.
pub(super) fn build(
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

/// The network with those thresholds set that no checkpoint gave it.
fn calibrated(
    model: Network,
    loaded: &[String],
    run: &RunConfig,
    images: usize,
    setting: &Setting<'_>,
    progress: &mut dyn Progress,
) -> Result<Network, Error> {
    if !run.plan.needs_calibration() {
        return Ok(model);
    }
    let missing = learned(&model).into_iter();
    let missing = missing.filter(|l| l.learned.calibrated && !loaded.contains(&l.key));
    let missing: BTreeSet<Place> = missing.map(|l| l.place).collect();
    let fresh = |place: &Place| missing.contains(place);
    set_rounding(setting.seed, UNTRAINED_STEP);
    let (model, thresholds) = calibrate(model, fresh, |model: &Network| {
        forward_calibration(model, images, setting);
    })
    .map_err(|error| error.within(&run.name))?;
    progress.calibrated(&thresholds);
    Ok(model)
}

/// Runs the network on the images that thresholds are calibrated with, the same for every run of a
/// seed.
pub(super) fn forward_calibration(model: &Network, images: usize, setting: &Setting<'_>) {
    let train = &setting.split.train;
    let order = epoch_order(train.len(), setting.seed, u32::MAX);
    for indices in order[..order.len().min(images)].chunks(CALIBRATION_BATCH) {
        model.forward(batch(train, indices, None, setting.device).images);
    }
}

/// What a finished run came to, from its last metrics.
fn result(
    metrics: &MetricsFile,
    trainer: &Trainer<'_, Network>,
    run: &RunConfig,
    split: &Split,
) -> Option<RunResult> {
    let state = trainer.state();
    let last = metrics.of(state.epoch)?;
    let best = state.best?;
    let images = (split.train.len() * run.epochs) as f64;
    Some(RunResult {
        name: run.name.clone(),
        accuracy: last.test_accuracy,
        loss: last.test_loss,
        best_epoch: best.epoch,
        best_accuracy: best.accuracy,
        seconds: state.seconds,
        images_per_second: images / state.step_seconds,
        model_bits: model_bits(trainer.model()),
        epochs: run.epochs,
    })
}
