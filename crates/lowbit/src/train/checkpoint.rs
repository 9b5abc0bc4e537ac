//! Checkpoints: everything that a run needs to go on as if it had never stopped.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Bytes, Tensor};
use serde::{Deserialize, Serialize};

use super::loss_scale::LossScaling;
use super::recipe::ThresholdState;
use crate::Error;
use crate::files::{sync_folder, write_synced};
use crate::models::{Classifier, LoadReport, Stored, Tolerance, load_plain};
use crate::optim::WeightAverage;
use crate::quantizers::{ModulePath, bad_learned};

pub(crate) const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
/// The average of weights on its way.
const AVERAGE: &str = "average.bpk";
/// The weights that training goes on from, where the model is their average, or more is trained.
const TRAINING: &str = "training.bpk";

/// Where a run stands. All randomness is a function of the seed, the epoch and the step, so there
/// is no generator to save; the learning rate is a function of the step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Finished epochs.
    pub epoch: usize,
    /// Finished batches of the epoch that is under way.
    pub batch: usize,
    /// Sums over those batches.
    pub sums: Sums,
    /// Seconds spent so far.
    pub seconds: f64,
    /// Of those, seconds spent in training steps.
    pub step_seconds: f64,
    /// The best epoch so far, if one is finished.
    pub best: Option<Best>,
    /// The scale of the loss, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scaling: Option<LossScaling>,
    /// How many weights the average is the mean of, where they are averaged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub averaged: u64,
    /// The thresholds, where they are to be frozen.
    #[serde(default, skip_serializing_if = "ThresholdState::is_empty")]
    pub thresholds: ThresholdState,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Sums over the images of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// Of the loss.
    pub loss: f64,
    /// Of the images whose highest score is their class.
    pub correct: u64,
    /// Of the images whose class is among the five highest scores, where there are more classes than
    /// five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_top5: Option<u64>,
    /// Of the images.
    pub images: u64,
}

impl Sums {
    /// Mean loss.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    /// Fraction of images whose highest score is their class.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }

    /// Fraction of images whose class is among the five highest scores, where there are more classes
    /// than five.
    pub fn top5_accuracy(&self) -> Option<f64> {
        let fraction = |correct| correct as f64 / self.images.max(1) as f64;
        self.correct_top5.map(fraction)
    }
}

/// The epoch with the highest accuracy on the held-out images, of several the one with the lowest
/// loss; where none are held out, on the test images, the first of several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The epoch, counted from 1; 0 for a network that was not trained.
    pub epoch: usize,
    /// Its accuracy.
    pub accuracy: f64,
    /// Its loss on the held-out images, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

/// The folder with a run's checkpoints. Each is a folder that appears whole, by a rename; the last
/// one and the best one are kept.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    dir: PathBuf,
}

impl Checkpoints {
    /// The checkpoints in `dir`, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder of a checkpoint after `epoch` epochs and `batch` batches.
    fn path(&self, epoch: usize, batch: usize) -> PathBuf {
        let name = match batch {
            0 => format!("epoch-{epoch:05}"),
            _ => format!("epoch-{epoch:05}-batch-{batch:07}"),
        };
        self.dir.join(name)
    }

    /// The folder of the checkpoint that is furthest on, if there is one.
    pub fn last(&self) -> Result<Option<PathBuf>, Error> {
        Ok(self.all()?.pop())
    }

    /// The folder of the checkpoint with the best accuracy, if an epoch is finished.
    pub fn best(&self) -> Result<Option<PathBuf>, Error> {
        let Some(last) = self.last()? else {
            return Ok(None);
        };
        Ok(load_state(&last)?.best.map(|best| self.path(best.epoch, 0)))
    }

    /// All checkpoints, the furthest on last.
    fn all(&self) -> Result<Vec<PathBuf>, Error> {
        if !self.dir.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(Error::io(&self.dir))? {
            let entry = entry.map_err(Error::io(&self.dir))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("epoch-") && !name.ends_with(".tmp") {
                found.push(entry.path());
            }
        }
        // The names sort as the checkpoints were made.
        found.sort();
        Ok(found)
    }

    /// Saves a checkpoint, then removes those that are neither last nor best.
    pub fn save<M: Stored>(
        &self,
        model: &M,
        optimizer: &ModuleOptimizer,
        state: &State,
    ) -> Result<(), Error> {
        let parts = Parts {
            model,
            optimizer,
            state,
            average: None,
        };
        self.save_parts(&parts)
    }

    /// The same, with an average of weights.
    pub(super) fn save_parts<M: Stored>(&self, parts: &Parts<'_, M>) -> Result<(), Error> {
        let state = parts.state;
        let path = self.path(state.epoch, state.batch);
        // The same place in the same run is the same checkpoint.
        if !path.exists() {
            self.write(&path, parts)?;
        }
        let best = state.best.map(|best| self.path(best.epoch, 0));
        for other in self.all()? {
            if other != path && Some(&other) != best.as_ref() {
                fs::remove_dir_all(&other).map_err(Error::io(&other))?;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint beside its place and moves it there as a whole.
    fn write<M: Stored>(&self, path: &Path, parts: &Parts<'_, M>) -> Result<(), Error> {
        let partial = path.with_extension("tmp");
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(Error::io(&partial))?;
        }
        fs::create_dir_all(&partial).map_err(Error::io(&partial))?;
        let write = |name: &str, bytes: Result<Bytes, RecordError>| {
            write_synced(&partial.join(name), &bytes.map_err(bad(path))?)
        };
        // The validation form has its running statistics brought up to date.
        let weights = || parts.model.valid().stored().into_bytes();
        let in_training = parts.model.valid().in_training();
        if let Some((mean, averaged)) = parts.average {
            write(AVERAGE, mean.to_bytes())?;
            match averaged {
                Some(averaged) => {
                    write(MODEL, averaged.stored().into_bytes())?;
                    if in_training.is_none() {
                        write(TRAINING, weights())?;
                    }
                }
                None => write(MODEL, weights())?,
            }
        } else {
            write(MODEL, weights())?;
        }
        if let Some(record) = in_training {
            write(TRAINING, record.into_bytes())?;
        }
        write(OPTIMIZER, parts.optimizer.to_record().into_bytes())?;
        let text = serde_json::to_vec_pretty(parts.state).expect("a state holds only numbers");
        write_synced(&partial.join(STATE), &text)?;
        sync_folder(&partial)?;
        fs::rename(&partial, path).map_err(Error::io(path))?;
        sync_folder(&self.dir)
    }
}

/// What a checkpoint is made of.
pub(super) struct Parts<'a, M> {
    pub(super) model: &'a M,
    pub(super) optimizer: &'a ModuleOptimizer,
    pub(super) state: &'a State,
    /// An average of weights, and the network with it where that was made, in validation form.
    pub(super) average: Option<(&'a WeightAverage, Option<&'a M>)>,
}

/// The state of the checkpoint in folder `path`.
pub fn load_state(path: &Path) -> Result<State, Error> {
    let path = path.join(STATE);
    let text = fs::read(&path).map_err(Error::io(&path))?;
    serde_json::from_slice(&text).map_err(|error| Error::Checkpoint {
        path,
        message: error.to_string(),
    })
}

/// The network with the parameters of the checkpoint in folder `path`.
///
/// # Errors
/// If it cannot be read, is of another network, or has learned what no quantizer can use.
pub fn load_model<M: Stored>(model: M, path: &Path) -> Result<M, Error> {
    load_record(model, &path.join(MODEL))
}

fn load_record<M: Stored>(model: M, path: &Path) -> Result<M, Error> {
    with_learned_checked(model.restored(read_record(path)?).map_err(bad(path))?, path)
}

fn read_record(path: &Path) -> Result<ModuleRecord, Error> {
    ModuleRecord::from_bytes(read(path)?).map_err(bad(path))
}

/// The network with the parameters that training goes on from, of the checkpoint in folder `path`.
pub(super) fn load_training<M: Stored>(model: M, path: &Path) -> Result<M, Error> {
    let training = path.join(TRAINING);
    match training.exists() {
        true => {
            let record = read_record(&training)?;
            let model = model.resumed(record).map_err(bad(&training))?;
            with_learned_checked(model, &training)
        }
        false => load_model(model, path),
    }
}

/// The average of `count` weights of the checkpoint in folder `path`; none are in no file.
pub(super) fn load_average(
    mean: WeightAverage,
    count: u64,
    path: &Path,
) -> Result<WeightAverage, Error> {
    if count == 0 {
        return Ok(mean);
    }
    let path = path.join(AVERAGE);
    mean.with_bytes(count, read(&path)?).map_err(bad(&path))
}

/// The network, if its quantizers can use what they have learned.
fn with_learned_checked<M: Stored>(model: M, path: &Path) -> Result<M, Error> {
    match bad_learned(&model) {
        None => Ok(model),
        Some(message) => Err(Error::Checkpoint {
            path: path.into(),
            message,
        }),
    }
}

/// The first parameter that training cannot start from, and why.
pub(crate) fn first_not_finite<M: Module>(model: &M) -> Option<String> {
    #[derive(Default)]
    struct Find {
        path: ModulePath,
        found: Option<String>,
    }

    impl ModuleVisitor for Find {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.found.is_some() {
                return;
            }
            let data = param.val().into_data();
            if let Some(value) = data.iter::<f32>().find(|value| !value.is_finite()) {
                self.found = Some(format!(
                    "{} holds {value}, expected numbers",
                    self.path.key()
                ));
            }
        }
    }

    let mut find = Find::default();
    model.visit(&mut find);
    find.found
}

/// A network with the weights of the checkpoint in folder `path`, or of a file as [`load_plain`]
/// reads it. Either may be of the same network with other quantizers: what only one of the two has
/// of those is passed over. Also returns what was loaded, and what differs.
///
/// # Errors
/// If either has another parameter that the other lacks, or of another shape, and `tolerance` does
/// not accept that; all are named. If it has learned what no quantizer can use, or a parameter is
/// NaN or infinite.
pub fn load_weights<M: Classifier>(
    model: M,
    path: &Path,
    tolerance: Tolerance,
) -> Result<(M, LoadReport), Error> {
    let path = match path.is_file() {
        true => path.to_owned(),
        false => path.join(MODEL),
    };
    let (model, report) = load_plain(model, &path, tolerance)?;
    let model = with_learned_checked(model, &path)?;
    match first_not_finite(&model) {
        None => Ok((model, report)),
        Some(message) => Err(Error::Checkpoint { path, message }),
    }
}

/// The optimizer with the state of the checkpoint in folder `path`.
pub fn load_optimizer(optimizer: ModuleOptimizer, path: &Path) -> Result<ModuleOptimizer, Error> {
    let path = path.join(OPTIMIZER);
    let record = OptimizerRecord::from_bytes(read(&path)?).map_err(bad(&path))?;
    Ok(optimizer.load_record(record))
}

fn read(path: &Path) -> Result<Bytes, Error> {
    fs::read(path)
        .map(Bytes::from_bytes_vec)
        .map_err(Error::io(path))
}

/// A record's error, about the file `path`.
fn bad(path: &Path) -> impl FnOnce(RecordError) -> Error {
    let path = path.to_owned();
    move |error| Error::Checkpoint {
        path,
        message: error.to_string().replace('\n', " "),
    }
}
