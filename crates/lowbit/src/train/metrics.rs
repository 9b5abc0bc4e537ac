//! Metrics of a run, epoch by epoch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::averaging::AverageMetrics;
use super::bit_budget::MeanBits;
use super::checkpoint::Sums;
use super::warning::Warning;
use crate::Error;
use crate::calibrate::Measured;
use crate::files::write_atomic;

/// One line of a run's metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Learning rate of the weights in its last step.
    pub lr: f64,
    /// Mean loss of the training images, as they were trained on.
    pub train_loss: f64,
    /// Fraction of them that was right.
    pub train_accuracy: f64,
    /// Fraction of them whose class was among the five highest scores, where there are more classes
    /// than five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_top5_accuracy: Option<f64>,
    /// Mean loss of the test images after the epoch.
    pub test_loss: f64,
    /// Fraction of them that is right.
    pub test_accuracy: f64,
    /// Fraction of them whose class is among the five highest scores, where there are more classes
    /// than five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_top5_accuracy: Option<f64>,
    /// What the held-out images say after the epoch, where images are held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Tested>,
    /// What the average of weights came to, where there is one; all else is of the last weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<AverageMetrics>,
    /// Mean widths, where they are learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_bits: Option<MeanBits>,
    /// Seconds since the start of the run, without interruptions.
    pub seconds: f64,
    /// What the loss is multiplied by, after the epoch, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f32>,
    /// Steps that were left out since a gradient was NaN or infinite, where the loss is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<u64>,
    /// What quantizers with a trained threshold and accumulators do to a few training examples, after the
    /// epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantizers: Vec<QuantizerMetrics>,
    /// The norm of each parameter's gradient in the last step, as the optimizer got it, by its path; empty
    /// where that step was left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gradient_norms: BTreeMap<String, f64>,
    /// What is wrong with the network although the losses are numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// What a quantizer, or an accumulator, does after an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantizerMetrics {
    /// The tensor's path, such as `conv1.weight`.
    pub path: String,
    /// Base-2 logarithm of the threshold, on average over its channels; none of an accumulator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log2_threshold: Option<f64>,
    /// Fraction of the values beyond the grid's ends by more than half a step; of sums, the share that
    /// saturates.
    pub clipped: f64,
}

impl From<&Measured> for QuantizerMetrics {
    fn from(measured: &Measured) -> Self {
        let thresholds = &measured.log2_threshold;
        let sum: f64 = thresholds.iter().map(|&log2| f64::from(log2)).sum();
        Self {
            path: measured.path.clone(),
            log2_threshold: (!thresholds.is_empty()).then(|| sum / thresholds.len() as f64),
            clipped: measured.clipped,
        }
    }
}

/// What a set of images says of a network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Their mean loss.
    pub loss: f64,
    /// Fraction of them that is right.
    pub accuracy: f64,
}

impl From<&Sums> for Tested {
    fn from(sums: &Sums) -> Self {
        Self {
            loss: sums.mean_loss(),
            accuracy: sums.accuracy(),
        }
    }
}

impl EpochMetrics {
    /// Loss and accuracy on the test images and, where there are any, on the held-out ones, of what
    /// a checkpoint of the epoch holds: of averaged weights, where there are any.
    pub fn tested(&self) -> (Tested, Option<Tested>) {
        match &self.average {
            Some(average) => (
                Tested {
                    loss: average.test_loss,
                    accuracy: average.test_accuracy,
                },
                average.held_out,
            ),
            None => (
                Tested {
                    loss: self.test_loss,
                    accuracy: self.test_accuracy,
                },
                self.held_out,
            ),
        }
    }
}

/// Every line of a file, in order; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Vec<EpochMetrics>, Error> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let written = fs::read_to_string(path).map_err(Error::io(path))?;
    let lines = written.lines().enumerate();
    lines.map(|(i, line)| parsed(path, i, line)).collect()
}

/// Line `i` of a file.
fn parsed(path: &Path, i: usize, line: &str) -> Result<EpochMetrics, Error> {
    serde_json::from_str(line).map_err(|error| Error::Checkpoint {
        path: path.into(),
        message: format!("line {}: {error}", i + 1),
    })
}

/// A run's metrics, one JSON object a line.
pub(super) struct MetricsFile {
    path: PathBuf,
    text: String,
    last: Option<EpochMetrics>,
}

impl MetricsFile {
    /// Opens the file without the lines after `epoch`, which a run that was killed may have
    /// written before it could save its checkpoint.
    pub(super) fn open(path: &Path, epoch: usize) -> Result<Self, Error> {
        let written = if path.exists() {
            fs::read_to_string(path).map_err(Error::io(path))?
        } else {
            String::new()
        };
        let (mut text, mut last) = (String::new(), None);
        for (i, line) in written.lines().enumerate() {
            let metrics = parsed(path, i, line)?;
            if metrics.epoch > epoch {
                break;
            }
            text += line;
            text.push('\n');
            last = Some(metrics);
        }
        Ok(Self {
            path: path.into(),
            text,
            last,
        })
    }

    /// Adds a line; the file is replaced as a whole.
    pub(super) fn push(&mut self, metrics: &EpochMetrics) -> Result<(), Error> {
        self.text += &serde_json::to_string(metrics).expect("metrics hold only numbers");
        self.text.push('\n');
        self.last = Some(metrics.clone());
        write_atomic(&self.path, self.text.as_bytes())
    }

    /// The line of `epoch`, which is one of the file.
    pub(super) fn find(&self, epoch: usize) -> Option<EpochMetrics> {
        let lines = self.text.lines().enumerate();
        let mut metrics = lines.filter_map(|(i, line)| parsed(&self.path, i, line).ok());
        metrics.find(|metrics| metrics.epoch == epoch)
    }

    /// The line of `epoch`, if it is the last one.
    pub(super) fn of(&self, epoch: usize) -> Option<&EpochMetrics> {
        self.last.as_ref().filter(|last| last.epoch == epoch)
    }
}
