//! Optimizers and learning-rate schedules.

mod normed_sgd;
mod optimizer;
mod schedule;

pub use normed_sgd::{NormedSgd, NormedSgdState};
pub use optimizer::{OptimizerConfig, ThresholdOptimizer, thresholds};
pub use schedule::Schedule;
