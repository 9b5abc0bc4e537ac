//! Descriptions: what goes into which slot of a layer ([`QConfig`]) and of a network ([`QPlan`]).
//! Both are plain values that can be written as TOML.

mod check;
mod file;
mod io_strict;
mod layer;
mod low_precision;
mod method;
mod nearest;
mod plan;
mod planner;
mod preset;
mod qconfig;
mod resolve;
mod tqt;
mod which;

pub use check::{CheckedLayer, CheckedSlot, PlanCheck, Problem};
pub use file::{FilePlace, PlanFile};
pub use io_strict::{AllDirect, IoStrict};
pub use layer::{Describe, Description, Foldable, Layer};
pub use low_precision::LowPrecisionPlan;
pub use method::{Method, widths_text};
pub use plan::{Fold, Override, QPlan, Widths};
pub use planner::Planner;
pub use preset::Preset;
pub use qconfig::QConfig;
pub use resolve::{Resolved, Rule};
pub use tqt::{SumWidth, TqtPlan, TqtWidths};
pub use which::{End, Part, PathRegex, Position};

/// Widths from here on leave a tensor in float.
pub(crate) const FLOAT_BITS: u32 = 32;
