//! What is meant where nothing is said, whatever the data set; for the rest see
//! [`DataSet::defaults`].

use crate::config::Method;
use crate::data::DataSet;
use crate::quantizers::ThresholdInit;

/// The data set.
pub(super) const DATA: DataSet = DataSet::Digits;

/// How it is quantized.
pub(super) const METHOD: Method = Method::DOREFA;

/// Bits of biases.
pub(super) const BIAS_BITS: u32 = 16;

/// How static thresholds of weights are found.
pub(super) const STATIC_WEIGHTS: ThresholdInit = ThresholdInit::Max;

/// How static thresholds of activations are found.
pub(super) const STATIC_ACTIVATIONS: ThresholdInit = ThresholdInit::KL_J;

/// Where all randomness comes from.
pub(super) const SEED: u64 = 0;

/// Training images that thresholds are calibrated with.
pub(super) const CALIBRATION_IMAGES: usize = 1024;

/// Highest learning rate of trained thresholds.
pub(super) const THRESHOLD_LR: f64 = 1e-2;

/// Threads: all cores.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
