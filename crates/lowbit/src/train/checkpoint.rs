//! Checkpoints: everything that a run needs to go on as if it had never stopped.

use std::fs;
use std::path::{Path, PathBuf};

use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::Bytes;
use serde::{Deserialize, Serialize};

use super::files::{sync_folder, write_synced};
use crate::Error;
use crate::models::Classifier;

const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";

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
}

/// Sums over the images of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// Of the loss.
    pub loss: f64,
    /// Of the images whose highest score is their class.
    pub correct: u64,
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
}

/// The epoch with the highest accuracy on the test images, the first of several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Its accuracy.
    pub accuracy: f64,
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
    pub fn save<M: Classifier>(
        &self,
        model: &M,
        optimizer: &ModuleOptimizer,
        state: &State,
    ) -> Result<(), Error> {
        let path = self.path(state.epoch, state.batch);
        let partial = path.with_extension("tmp");
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(Error::io(&partial))?;
        }
        fs::create_dir_all(&partial).map_err(Error::io(&partial))?;
        // The validation form has its running statistics brought up to date.
        let model = model.valid().record().into_bytes();
        write_synced(&partial.join(MODEL), &model.map_err(bad(&path))?)?;
        let optimizer = optimizer.to_record().into_bytes();
        write_synced(&partial.join(OPTIMIZER), &optimizer.map_err(bad(&path))?)?;
        let text = serde_json::to_vec_pretty(state).expect("a state holds only numbers");
        write_synced(&partial.join(STATE), &text)?;
        sync_folder(&partial)?;
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        }
        fs::rename(&partial, &path).map_err(Error::io(&path))?;
        sync_folder(&self.dir)?;
        let best = state.best.map(|best| self.path(best.epoch, 0));
        for other in self.all()? {
            if other != path && Some(&other) != best.as_ref() {
                fs::remove_dir_all(&other).map_err(Error::io(&other))?;
            }
        }
        Ok(())
    }
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
pub fn load_model<M: Classifier>(model: M, path: &Path) -> Result<M, Error> {
    let path = path.join(MODEL);
    let record = ModuleRecord::from_bytes(read(&path)?).map_err(bad(&path))?;
    model.with_record(record).map_err(bad(&path))
}

/// A network with the weights of the checkpoint in folder `path`, which may be of the same network
/// with other quantizers: what only one of the two has of those is passed over.
///
/// # Errors
/// If either has another parameter that the other lacks, or of another shape; all are named.
pub fn load_weights<M: Classifier>(model: M, path: &Path) -> Result<M, Error> {
    let path = path.join(MODEL);
    let own = model.record().into_bytes().map_err(bad(&path))?;
    let theirs = read(&path)?;
    let (own, keys) = (parameters(own, &path)?, parameters(theirs.clone(), &path)?);
    let only = |what: &str, a: &[String], b: &[String]| {
        let of_quantizer = |key: &str| key.contains("quantizers.");
        let keys: Vec<&str> = a
            .iter()
            .filter(|key| !b.contains(key) && !of_quantizer(key))
            .map(String::as_str)
            .collect();
        if keys.is_empty() {
            String::new()
        } else {
            format!("; {what} {}", keys.join(", "))
        }
    };
    let difference = only("it lacks", &own, &keys) + &only("it alone has", &keys, &own);
    if !difference.is_empty() {
        let message = format!("holds another network{difference}");
        return Err(Error::Checkpoint { path, message });
    }
    let record = ModuleRecord::from_bytes(theirs).map_err(bad(&path))?;
    model
        .with_record(record.allow_partial(true).allow_unused(true))
        .map_err(bad(&path))
}

/// The names of the parameters in a record.
fn parameters(record: Bytes, path: &Path) -> Result<Vec<String>, Error> {
    let reader = burn_pack::Reader::from_bytes(record)
        .map_err(|error| bad(path)(RecordError::from(error)))?;
    Ok(reader
        .tensor_names()
        .into_iter()
        .map(String::from)
        .collect())
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
