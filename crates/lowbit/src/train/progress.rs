//! Telling somebody how training goes.

use std::path::Path;

use super::checkpoint::Sums;
use super::experiment::RunConfig;
use super::metrics::EpochMetrics;
use super::tensors::EpochTensors;
use super::warning::Warning;
use crate::calibrate::Calibrated;
use crate::models::LoadReport;
use crate::repair::Repaired;

/// A step that is done.
#[derive(Debug, Clone, Copy)]
pub struct StepMetrics<'a> {
    /// Steps since the start of the run, this one too.
    pub step: usize,
    /// Sums over the epoch so far.
    pub sums: &'a Sums,
    /// Images of the whole epoch.
    pub images: usize,
    /// Those of it that were trained on so far.
    pub done: usize,
    /// Images of this step.
    pub trained: usize,
    /// Mean loss of the images of this step.
    pub loss: f64,
    /// Learning rate of the weights in this step.
    pub lr: f64,
}

/// Hears of everything that happens in training. Every method does nothing unless overridden.
pub trait Progress {
    /// A cell of a chain begins, goes on or is finished: its folder, which one it is from 0, and how
    /// many there are.
    fn cell(&mut self, _folder: &Path, _index: usize, _cells: usize) {}

    /// A run begins, or goes on after the epochs it already finished, and after so many steps.
    fn start(&mut self, _run: &RunConfig, _finished_epochs: usize, _steps: usize) {}

    /// The first weights of a run were loaded, or there are none.
    fn loaded(&mut self, _report: &LoadReport) {}

    /// A student was given what it shares with its teacher.
    fn started_from_teacher(&mut self, _report: &LoadReport) {}

    /// The thresholds of a run were set.
    fn calibrated(&mut self, _thresholds: &[Calibrated]) {}

    /// An algorithm has moved the parameters of a run.
    fn repaired(&mut self, _repaired: &Repaired) {}

    /// A step is done.
    fn step(&mut self, _step: &StepMetrics<'_>) {}

    /// Whether tensors are wanted after each epoch.
    fn wants_tensors(&self) -> bool {
        false
    }

    /// The tensors after an epoch, before its metrics, where they are wanted.
    fn tensors(&mut self, _tensors: &EpochTensors<'_>) {}

    /// An epoch is done.
    fn epoch(&mut self, _metrics: &EpochMetrics) {}

    /// Something is wrong with the network, after an epoch or before the first.
    fn warn(&mut self, _warnings: &[Warning]) {}

    /// A run was stopped before its end, and its state saved in a folder.
    fn interrupted(&mut self, _checkpoints: &Path) {}
}

/// Says nothing.
impl Progress for () {}
