//! The quantization methods, one a file.

mod accumulator;
mod dorefa;
mod format;
mod trained_threshold;

pub use accumulator::{Accumulator, AccumulatorConfig};
pub use dorefa::{DorefaActivation, DorefaConfig, DorefaWeight};
pub use format::{FormatQuantizer, FormatQuantizerConfig, UNTRAINED_STEP, set_rounding};
pub use trained_threshold::{TrainedThreshold, TrainedThresholdConfig, bad_threshold};
