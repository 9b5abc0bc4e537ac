//! Descriptions: what goes into which slot of a layer ([`QConfig`]) and of a network ([`QPlan`]).
//! Both are plain values that can be written as TOML.

mod layer;
mod low_precision;
mod method;
mod plan;
mod planner;
mod qconfig;
mod tqt;

pub use layer::{Describe, Description, Foldable, Layer};
pub use low_precision::LowPrecisionPlan;
pub use method::{Method, widths_text};
pub use plan::{Fold, Override, QPlan, Widths};
pub use planner::Planner;
pub use qconfig::QConfig;
pub use tqt::{SumWidth, TqtPlan, TqtWidths};

/// Widths from here on leave a tensor in float.
pub(crate) const FLOAT_BITS: u32 = 32;
