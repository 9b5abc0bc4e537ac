//! Optimizers and learning-rate schedules.

mod adam;
mod normed_sgd;
mod optimizer;
mod schedule;
mod sgd;

pub use adam::{Adam, AdamState};
pub use normed_sgd::{NormedSgd, NormedSgdState};
pub use optimizer::{OptimizerConfig, ThresholdOptimizer, thresholds};
pub use schedule::Schedule;
pub use sgd::{Sgd, SgdState};
