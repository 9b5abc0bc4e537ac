//! Finding a trained run and testing it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use super::run::{CHECKPOINTS, build};
use super::trainer::evaluate;
use super::{Experiment, RunFolder, checkpoint};
use crate::Error;
use crate::data::Split;
use crate::models::{Network, model_bits};

/// The checkpoint with the best weights under `path`, which is the folder of a run, or of an
/// experiment with one run or with one called `float`.
pub fn best_checkpoint(path: &Path) -> Result<PathBuf, Error> {
    let (folder, run, _) = find_run(path)?;
    folder
        .checkpoints(&run)
        .best()?
        .ok_or_else(|| no_checkpoint(&folder.path().join(run)))
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
    /// Seconds that the test took.
    pub seconds: f64,
    /// Test images over those seconds.
    pub images_per_second: f64,
    /// Test images.
    pub images: u64,
    /// Bits that the parameters take.
    pub model_bits: u64,
}

/// The network of a run with the weights of its best or its last checkpoint, in validation form,
/// and that checkpoint.
pub fn trained_network(
    folder: &RunFolder,
    experiment: &Experiment,
    name: &str,
    last: bool,
    split: &Split,
    device: &Device,
) -> Result<(Network, PathBuf), Error> {
    let run = experiment
        .runs
        .iter()
        .find(|run| run.name == name)
        .ok_or_else(|| Error::Checkpoint {
            path: folder.path().into(),
            message: format!("has no run `{name}`"),
        })?;
    let checkpoints = folder.checkpoints(name);
    let path = if last {
        checkpoints.last()?
    } else {
        checkpoints.best()?
    };
    let path = path.ok_or_else(|| no_checkpoint(&folder.path().join(name)))?;
    let model = build(experiment, run, split, device)?;
    Ok((checkpoint::load_model(model, &path)?.valid(), path))
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
    let (model, path) = trained_network(folder, experiment, name, last, split, device)?;
    let start = Instant::now();
    let sums = evaluate(&model, &split.test, device);
    let seconds = start.elapsed().as_secs_f64();
    Ok(Evaluation {
        name: name.into(),
        checkpoint: path,
        accuracy: sums.accuracy(),
        loss: sums.mean_loss(),
        seconds,
        images_per_second: sums.images as f64 / seconds,
        images: sums.images,
        model_bits: model_bits(&model),
    })
}
