//! Testing a trained run.

use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use super::checkpoint;
use super::distillation::Teacher;
use super::experiment::{Experiment, RunConfig};
use super::folder::{RunFolder, no_checkpoint};
use super::task::{Classification, evaluate, forward_calibration};
use super::warning::{Warning, look};
use super::weights_hash::weights_sha256;
use crate::Error;
use crate::calibrate::{Measured, measure};
use crate::data::Split;
use crate::models::{Network, model_bits};
use crate::quantizers::{UNTRAINED_STEP, set_rounding};

/// Loss and accuracy of a run's checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// The run's name.
    pub name: String,
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Fraction of the test images that is right.
    pub accuracy: f64,
    /// Fraction of them whose class is among the five highest scores, where there are more classes
    /// than five.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5_accuracy: Option<f64>,
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
    /// SHA-256 of the weights, as [`weights_sha256`] makes it; none where they are in no checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// What is wrong with the network although its loss is a number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
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
    let run = find(folder, experiment, name)?;
    let checkpoints = folder.checkpoints(name);
    let path = if last {
        checkpoints.last()?
    } else {
        checkpoints.best()?
    };
    let path = path.ok_or_else(|| no_checkpoint(&folder.run(name)))?;
    let model = experiment.network(run, split, device)?;
    Ok((checkpoint::load_model(model, &path)?.valid(), path))
}

fn find<'a>(
    folder: &RunFolder,
    experiment: &'a Experiment,
    name: &str,
) -> Result<&'a RunConfig, Error> {
    let mut runs = experiment.runs.iter();
    let run = runs.find(|run| run.name == name);
    run.ok_or_else(|| Error::Checkpoint {
        path: folder.path().into(),
        message: format!("has no run `{name}`"),
    })
}

/// What every quantizer and accumulator of a run's network does to the images that it was
/// calibrated with.
pub fn measure_run(
    model: &Network,
    experiment: &Experiment,
    name: &str,
    split: &Split,
    device: &Device,
) -> Result<Vec<Measured>, Error> {
    let mut runs = experiment.runs.iter();
    let run = runs.find(|run| run.name == name);
    let run = run.ok_or_else(|| Error::config("runs", format!("has no run `{name}`")))?;
    let task = Classification::new(experiment, run, split, device);
    set_rounding(experiment.seed, UNTRAINED_STEP);
    Ok(measure(model, |model| {
        forward_calibration(&task, model, experiment.calibration_images, experiment.seed);
    }))
}

/// Tests the best or the last checkpoint of a run on the test images.
///
/// # Errors
/// If there is none, it cannot be read, or its loss is no number.
pub fn evaluate_run(
    folder: &RunFolder,
    experiment: &Experiment,
    name: &str,
    last: bool,
    split: &Split,
    device: &Device,
) -> Result<Evaluation, Error> {
    let (model, path) = trained_network(folder, experiment, name, last, split, device)?;
    let run = find(folder, experiment, name)?;
    let task = Classification::new(experiment, run, split, device);
    let tested = tested(name, &model, path, &task)?;
    Ok(Evaluation {
        weights_sha256: Some(weights_sha256(&tested.checkpoint)?),
        warnings: look(&model, &task, experiment.seed).warnings(),
        ..tested
    })
}

/// Tests the teacher of an experiment's student on the test images.
///
/// # Errors
/// If there is none, it cannot be read, or its loss is no number.
pub fn evaluate_teacher(
    experiment: &Experiment,
    split: &Split,
    device: &Device,
) -> Result<Evaluation, Error> {
    let mut runs = experiment.runs.iter();
    let found = runs.find_map(|run| Some((run, run.distillation.as_ref()?)));
    let nobody = || Error::config("teacher", "no run has one");
    let (run, distillation) = found.ok_or_else(nobody)?;
    let config = &distillation.teacher;
    let teacher = Teacher::load(config, split, experiment.seed, device)?;
    let task = Classification::new(experiment, run, split, device);
    tested(&config.name(), teacher.model(), config.path.clone(), &task)
}

/// What the test images say of a network.
fn tested(
    name: &str,
    model: &Network,
    checkpoint: PathBuf,
    task: &Classification<'_>,
) -> Result<Evaluation, Error> {
    let start = Instant::now();
    let sums = evaluate(model, &task.split.test, task.objective, task.device);
    let seconds = start.elapsed().as_secs_f64();
    let images = task.split.test.len();
    if !sums.loss.is_finite() {
        return Err(Error::NotFinite {
            run: name.into(),
            loss: sums.mean_loss(),
        });
    }
    Ok(Evaluation {
        name: name.into(),
        checkpoint,
        accuracy: sums.accuracy(),
        top5_accuracy: sums.top5_accuracy(),
        loss: sums.mean_loss(),
        seconds,
        images_per_second: images as f64 / seconds,
        images: images as u64,
        model_bits: model_bits(model),
        weights_sha256: None,
        warnings: Vec::new(),
    })
}
