//! Optimizers and learning-rate schedules.

mod adam;
mod optimizer;
mod schedule;
mod sgd;

pub use adam::{Adam, AdamState};
pub use optimizer::{OptimizerConfig, thresholds};
pub use schedule::Schedule;
pub use sgd::{Sgd, SgdState};
