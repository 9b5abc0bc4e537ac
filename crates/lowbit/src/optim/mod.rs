//! Optimizers and learning-rate schedules.

mod adam;
mod average;
mod from_start;
mod low_precision;
mod normed_sgd;
mod optimizer;
mod schedule;
mod sgd;
mod shift_sgd;
mod wageubn;

pub use adam::{Adam, AdamState};
pub use average::WeightAverage;
pub use from_start::rounded_from_start;
pub use low_precision::{LowPrecision, LowPrecisionState, OptimizerNumbers};
pub use normed_sgd::{NormedSgd, NormedSgdState};
pub use optimizer::{OptimizerConfig, ThresholdOptimizer, thresholds};
pub use schedule::Schedule;
pub use sgd::{Sgd, SgdState};
pub use shift_sgd::{ShiftSgd, ShiftSgdState};
pub use wageubn::{Wageubn, WageubnConfig};
