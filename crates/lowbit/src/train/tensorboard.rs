//! Training as TensorBoard shows it.

use std::path::{Path, PathBuf};

use super::experiment::{Experiment, RunConfig};
use super::keys;
use super::metrics::{EpochMetrics, Tested};
use super::progress::{Progress, StepMetrics};
use super::tensors::{EpochTensors, NamedTensor};
use super::warning::Warning;
use crate::Error;
use crate::calibrate::Calibrated;
use crate::models::LoadReport;
use crate::tensorboard::{EventWriter, Hparam};

/// The tags of what a run is judged by.
const METRICS: [&str; 2] = ["epoch/test accuracy", "epoch/test loss"];

/// Writes event files of each run of an experiment, in a folder of the run's name, and hands on what it
/// hears. Steps are those of the optimizer.
///
/// | tag | |
/// |---|---|
/// | `step/loss`, `step/learning rate` | of each step |
/// | `epoch/...` | losses, accuracies, mean widths, the scale of the loss |
/// | `threshold/PATH` | base-2 logarithm of a trained threshold, on average over its channels |
/// | `clipped/PATH` | the share of the values that it clips |
/// | `gradient norm/PATH` | of the last step of the epoch |
/// | `weights/PATH`, `quantizers/PATH`, `gradients/PATH`, `outputs/PATH` | histograms, after each epoch |
/// | `filters/PATH` | the weight of a convolution that sees an image, as a picture |
/// | `config`, `warnings` | texts |
///
/// What cannot be written is no reason to stop training: [`finish`](Self::finish) says what it was.
pub struct TensorBoard<'a> {
    folder: PathBuf,
    experiment: &'a Experiment,
    then: &'a mut dyn Progress,
    /// Of the run that is under way.
    writer: Option<EventWriter>,
    epochs: usize,
    step: u64,
    failed: Option<Error>,
}

impl<'a> TensorBoard<'a> {
    /// Event files in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(
        folder: impl Into<PathBuf>,
        experiment: &'a Experiment,
        then: &'a mut dyn Progress,
    ) -> Result<Self, Error> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        Ok(Self {
            folder,
            experiment,
            then,
            writer: None,
            epochs: 0,
            step: 0,
            failed: None,
        })
    }

    /// Ends the files.
    ///
    /// # Errors
    /// The first that kept something from being written; what came after it is missing.
    pub fn finish(mut self) -> Result<(), Error> {
        self.write(|writer, _| writer.flush());
        self.failed.map_or(Ok(()), Err)
    }

    /// Writes to the run's file; nothing more once that has failed.
    fn write(&mut self, to: impl FnOnce(&mut EventWriter, u64) -> Result<(), Error>) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if let Err(error) = to(writer, self.step) {
            self.writer = None;
            self.failed.get_or_insert(error);
        }
    }

    fn begin(&mut self, run: &RunConfig, steps: u64) -> Result<EventWriter, Error> {
        let mut writer = EventWriter::resume(&self.folder.join(&run.name), steps)?;
        if steps == 0 {
            let config = self.experiment.to_toml()?;
            writer.text("config", 0, &format!("```toml\n{config}```"))?;
            writer.hparams(&hparams(self.experiment, run), &METRICS)?;
        }
        Ok(writer)
    }
}

/// What a run is, as hyperparameters.
fn hparams(experiment: &Experiment, run: &RunConfig) -> Vec<(String, Hparam)> {
    let value = |value: toml::Value| match value {
        toml::Value::Integer(number) => Hparam::Number(number as f64),
        toml::Value::Float(number) => Hparam::Number(number),
        toml::Value::Boolean(yes) => Hparam::Bool(yes),
        toml::Value::String(text) => Hparam::Text(text),
        other => Hparam::Text(other.to_string()),
    };
    let keys = keys(experiment, run).into_iter();
    keys.map(|(key, of)| (key, value(of))).collect()
}

impl Progress for TensorBoard<'_> {
    fn cell(&mut self, folder: &Path, index: usize, cells: usize) {
        self.then.cell(folder, index, cells);
    }

    fn start(&mut self, run: &RunConfig, finished_epochs: usize, steps: usize) {
        self.write(|writer, _| writer.flush());
        self.epochs = run.epochs;
        self.step = steps as u64;
        if self.failed.is_none() {
            match self.begin(run, steps as u64) {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => self.failed = Some(error),
            }
        }
        self.then.start(run, finished_epochs, steps);
    }

    fn loaded(&mut self, report: &LoadReport) {
        self.then.loaded(report);
    }

    fn started_from_teacher(&mut self, report: &LoadReport) {
        self.then.started_from_teacher(report);
    }

    fn calibrated(&mut self, thresholds: &[Calibrated]) {
        self.then.calibrated(thresholds);
    }

    fn step(&mut self, step: &StepMetrics<'_>) {
        self.step = step.step as u64;
        self.write(|writer, at| {
            writer.scalar("step/loss", at, step.loss as f32)?;
            writer.scalar("step/learning rate", at, step.lr as f32)
        });
        self.then.step(step);
    }

    fn wants_tensors(&self) -> bool {
        true
    }

    fn tensors(&mut self, tensors: &EpochTensors<'_>) {
        self.step = tensors.step as u64;
        self.write(|writer, at| write_tensors(writer, at, tensors));
        if self.then.wants_tensors() {
            self.then.tensors(tensors);
        }
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        let ended = metrics.epoch == self.epochs;
        self.write(|writer, at| {
            write_metrics(writer, at, metrics)?;
            if ended {
                writer.hparams_ended()?;
            }
            writer.flush()
        });
        self.then.epoch(metrics);
    }

    fn warn(&mut self, warnings: &[Warning]) {
        let lines: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        if !lines.is_empty() {
            self.write(|writer, at| writer.text("warnings", at, &lines.join("\n\n")));
        }
        self.then.warn(warnings);
    }

    fn interrupted(&mut self, checkpoints: &Path) {
        self.write(|writer, _| writer.flush());
        self.then.interrupted(checkpoints);
    }
}

fn write_metrics(writer: &mut EventWriter, at: u64, metrics: &EpochMetrics) -> Result<(), Error> {
    let of = |tested: Option<Tested>| tested.map(|both| (both.loss, both.accuracy));
    let (held_out_loss, held_out_accuracy) = of(metrics.held_out).unzip();
    let average = metrics.average.as_ref();
    let bits = metrics.mean_bits;
    let numbers = [
        ("training loss", Some(metrics.train_loss)),
        ("training accuracy", Some(metrics.train_accuracy)),
        ("training top-5 accuracy", metrics.train_top5_accuracy),
        ("test loss", Some(metrics.test_loss)),
        ("test accuracy", Some(metrics.test_accuracy)),
        ("test top-5 accuracy", metrics.test_top5_accuracy),
        ("held-out loss", held_out_loss),
        ("held-out accuracy", held_out_accuracy),
        ("average test loss", average.map(|a| a.test_loss)),
        ("average test accuracy", average.map(|a| a.test_accuracy)),
        ("weight bits", bits.map(|bits| bits.weights)),
        ("input bits", bits.map(|bits| bits.inputs)),
        ("loss scale", metrics.loss_scale.map(f64::from)),
        ("skipped steps", metrics.skipped_steps.map(|n| n as f64)),
        ("learning rate", Some(metrics.lr)),
        ("number", Some(metrics.epoch as f64)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            writer.scalar(&format!("epoch/{name}"), at, number as f32)?;
        }
    }
    for quantizer in &metrics.quantizers {
        let path = &quantizer.path;
        if let Some(log2) = quantizer.log2_threshold {
            writer.scalar(&format!("threshold/{path}"), at, log2 as f32)?;
        }
        writer.scalar(&format!("clipped/{path}"), at, quantizer.clipped as f32)?;
    }
    for (path, norm) in &metrics.gradient_norms {
        writer.scalar(&format!("gradient norm/{path}"), at, *norm as f32)?;
    }
    Ok(())
}

fn write_tensors(
    writer: &mut EventWriter,
    at: u64,
    tensors: &EpochTensors<'_>,
) -> Result<(), Error> {
    for parameter in tensors.parameters {
        let path = &parameter.path;
        let group = match path.contains(".quantizers.") {
            true => "quantizers",
            false => "weights",
        };
        writer.histogram(&format!("{group}/{path}"), at, &parameter.values())?;
        if let Some((size, pixels)) = filters(parameter) {
            writer.image(&format!("filters/{path}"), at, size, &pixels)?;
        }
    }
    for gradient in tensors.gradients {
        let tag = format!("gradients/{}", gradient.path);
        writer.histogram(&tag, at, &gradient.values())?;
    }
    for output in tensors.outputs {
        let values: Vec<f32> = output.tensor.iter::<f32>().collect();
        writer.histogram(&format!("outputs/{}", output.place.layer), at, &values)?;
    }
    Ok(())
}

/// The kernels `[out, in, rows, columns]` of a convolution that sees an image, of one or three channels, side
/// by side with a grey pixel between them: zero is grey, the largest magnitude black or white.
fn filters(weight: &NamedTensor) -> Option<([usize; 2], Vec<u8>)> {
    let &[kernels, channels, rows, columns] = weight.tensor.shape().as_slice() else {
        return None;
    };
    if ![1, 3].contains(&channels) || rows * columns == 1 {
        return None;
    }
    let values = weight.values();
    let most = values.iter().fold(0f32, |most, x| most.max(x.abs()));
    let across = (kernels as f64).sqrt().ceil() as usize;
    let size = [
        across * (columns + 1) - 1,
        kernels.div_ceil(across) * (rows + 1) - 1,
    ];
    let mut pixels = vec![128; size[0] * size[1] * channels];
    for (i, value) in values.iter().enumerate() {
        let (kernel, rest) = (
            i / (channels * rows * columns),
            i % (channels * rows * columns),
        );
        let (channel, y, x) = (
            rest / (rows * columns),
            rest / columns % rows + kernel / across * (rows + 1),
            rest % columns + kernel % across * (columns + 1),
        );
        let shade = 127.5 + 127.5 * (value / most.max(f32::MIN_POSITIVE));
        pixels[(y * size[0] + x) * channels + channel] = shade.round() as u8;
    }
    Some((size, pixels))
}

#[cfg(test)]
mod tests;
