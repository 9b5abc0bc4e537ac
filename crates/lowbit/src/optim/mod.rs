//! Optimizers and learning-rate schedules.

mod optimizer;
mod schedule;

pub use optimizer::{OptimizerConfig, thresholds};
pub use schedule::Schedule;
