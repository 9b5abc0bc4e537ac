//! Where an experiment lies on disk: a folder with the complete configuration, and in it a folder
//! per run with metrics, checkpoints and the result.

use std::fs;
use std::path::{Path, PathBuf};

use lowbit_formats::new_file::holds_something;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoints;
use super::experiment::{Experiment, RunConfig};
use super::metrics::{self, EpochMetrics, Tested};
use super::warning::Warning;
use crate::Error;
use crate::config::Method;
use crate::files::write_atomic;
use crate::models::Activity;

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const RESULT: &str = "result.json";
const CHECKPOINTS: &str = "checkpoints";

/// What a finished run came to. Where weights were averaged, accuracies, loss and checkpoints are
/// of the average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Its name.
    pub name: String,
    /// Fraction of the test images that is right after the last epoch.
    pub accuracy: f64,
    /// Fraction of them whose class is among the five highest scores, where there are more classes
    /// than five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5_accuracy: Option<f64>,
    /// Their mean loss.
    pub loss: f64,
    /// The epoch with the highest accuracy, on the held-out images where there are any, counted from
    /// 1; 0 where nothing was trained.
    pub best_epoch: usize,
    /// Its accuracy on the test images.
    pub best_accuracy: f64,
    /// What the held-out images say, where images are held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// What the last weights came to, where they were averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_weights: Option<LastWeights>,
    /// Seconds spent in training and in the tests between epochs.
    pub seconds: f64,
    /// Training images over the seconds spent in training steps.
    pub images_per_second: f64,
    /// Bits that the parameters take.
    pub model_bits: u64,
    /// What a spiking network does for a test image after the last epoch, with the last weights, also
    /// where they were averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// SHA-256 of the weights of the last checkpoint, as [`weights_sha256`](super::weights_sha256) makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// Epochs.
    pub epochs: usize,
    /// What is wrong with the network after them although its loss is a number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// What held-out images say of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Of the network after the last epoch.
    pub last: Tested,
    /// Of the best one, which they chose.
    pub best: Tested,
}

/// The last weights of a run that averaged them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastWeights {
    /// How many weights the average is the mean of.
    pub averaged: u64,
    /// Fraction of the test images that is right with the last weights themselves.
    pub accuracy: f64,
    /// Their mean loss.
    pub loss: f64,
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
        if holds_something(&path) {
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

    /// The first of `runs/digits-cnn`, `runs/digits-cnn-2`, ... that does not exist, where the
    /// experiment is of the cnn on the digits; of `runs/digits-cnn-tqt` and so on, where all of it is
    /// quantized with a method.
    pub fn unused(experiment: &Experiment, method: Option<Method>) -> PathBuf {
        let method = method.map_or(String::new(), |method| format!("-{method}"));
        Self::first_unused(&format!("{}-{}{method}", experiment.data, experiment.model))
    }

    /// The first of `runs/NAME`, `runs/NAME-2`, ... that does not exist.
    pub fn first_unused(name: &str) -> PathBuf {
        let name = format!("runs/{name}");
        let numbered = (2..).map(|n| PathBuf::from(format!("{name}-{n}")));
        std::iter::once(PathBuf::from(&name))
            .chain(numbered)
            .find(|path| !path.exists())
            .expect("there are more numbers than folders")
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
        Checkpoints::new(self.run(run).join(CHECKPOINTS))
    }

    /// The metrics of every finished epoch of a run, in order.
    ///
    /// # Errors
    /// If they cannot be read, with the line.
    pub fn epochs(&self, run: &str) -> Result<Vec<EpochMetrics>, Error> {
        metrics::read(&self.metrics(run))
    }

    /// The result of a run, if it is finished.
    pub fn result(&self, run: &str) -> Result<Option<RunResult>, Error> {
        let path = self.run(run).join(RESULT);
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

    /// The folder of a run.
    pub(crate) fn run(&self, run: &str) -> PathBuf {
        self.path.join(run)
    }

    /// The file with the metrics of a run.
    pub(super) fn metrics(&self, run: &str) -> PathBuf {
        self.run(run).join(METRICS)
    }

    /// Writes the result of a run, which finishes it.
    pub(super) fn finish(&self, result: &RunResult) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(result).expect("a result holds only numbers");
        write_atomic(&self.run(&result.name).join(RESULT), &text)
    }
}

/// The checkpoint with the best weights under `path`, which is the folder of a run, or of an
/// experiment with one run or with one called `float`.
pub fn best_checkpoint(path: &Path) -> Result<PathBuf, Error> {
    let (folder, run, _) = find_run(path)?;
    folder
        .checkpoints(&run)
        .best()?
        .ok_or_else(|| no_checkpoint(&folder.run(&run)))
}

/// The run whose weights `from` means, which is a folder as [`find_run`] takes it or a checkpoint of
/// a run, and the experiment it is of; `None` for another file.
pub(super) fn run_of(from: &Path) -> Option<(Experiment, RunConfig)> {
    // A checkpoint, or a file in one, lies in the folder of its run.
    let mut above = from.ancestors();
    let run = above.find(|path| path.join(CHECKPOINTS).is_dir());
    let (_, name, experiment) = find_run(run.unwrap_or(from)).ok()?;
    let run = experiment.runs.iter().find(|run| run.name == name)?.clone();
    Some((experiment, run))
}

/// The run that `path` means: the folder it is in, its name, and the folder's experiment.
pub fn find_run(path: &Path) -> Result<(RunFolder, String, Experiment), Error> {
    if path.join(CHECKPOINTS).is_dir() {
        let run = path.canonicalize().map_err(Error::io(path))?;
        if let (Some(parent), Some(name)) = (run.parent(), run.file_name()) {
            let (folder, experiment) = RunFolder::open(parent)?;
            return Ok((folder, name.to_string_lossy().into_owned(), experiment));
        }
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

pub(super) fn no_checkpoint(path: &Path) -> Error {
    Error::Checkpoint {
        path: path.into(),
        message: "has no checkpoint of a finished epoch".into(),
    }
}
