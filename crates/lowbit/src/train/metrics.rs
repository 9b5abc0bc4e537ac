//! Metrics of a run, epoch by epoch.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::write_atomic;
use crate::Error;

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

/// A run's metrics, one JSON object a line.
pub(super) struct MetricsFile {
    path: PathBuf,
    last: Option<EpochMetrics>,
}

impl MetricsFile {
    /// Opens the file and drops the lines after `epoch`, which a run that was killed may have
    /// written before it could save its checkpoint.
    pub(super) fn open(path: &Path, epoch: usize) -> Result<Self, Error> {
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

    pub(super) fn push(&mut self, metrics: &EpochMetrics) -> Result<(), Error> {
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

    /// The last line, if there is one.
    pub(super) fn last(&self) -> Option<&EpochMetrics> {
        self.last.as_ref()
    }
}
