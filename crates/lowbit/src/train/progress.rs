//! Telling somebody how training goes.

use std::path::Path;

use super::checkpoint::Sums;
use super::experiment::RunConfig;
use super::metrics::EpochMetrics;
use super::warning::Warning;
use crate::calibrate::Calibrated;
use crate::models::LoadReport;
use crate::repair::Repaired;

/// Hears of everything that happens in training. Every method does nothing unless overridden.
pub trait Progress {
    /// A cell of a chain begins, goes on or is finished: its folder, which one it is from 0, and how
    /// many there are.
    fn cell(&mut self, _folder: &Path, _index: usize, _cells: usize) {}

    /// A run begins, or goes on after the epochs it already finished.
    fn start(&mut self, _run: &RunConfig, _finished_epochs: usize) {}

    /// The first weights of a run were loaded, or there are none.
    fn loaded(&mut self, _report: &LoadReport) {}

    /// A student was given what it shares with its teacher.
    fn started_from_teacher(&mut self, _report: &LoadReport) {}

    /// The thresholds of a run were set.
    fn calibrated(&mut self, _thresholds: &[Calibrated]) {}

    /// An algorithm has moved the parameters of a run.
    fn repaired(&mut self, _repaired: &Repaired) {}

    /// A step is done: sums over the epoch so far, of `images` in all.
    fn step(&mut self, _sums: &Sums, _images: usize) {}

    /// An epoch is done.
    fn epoch(&mut self, _metrics: &EpochMetrics) {}

    /// Something is wrong with the network, after an epoch or before the first.
    fn warn(&mut self, _warnings: &[Warning]) {}

    /// A run was stopped before its end, and its state saved in a folder.
    fn interrupted(&mut self, _checkpoints: &Path) {}
}

/// Says nothing.
impl Progress for () {}
