//! Quantizers: modules that say how one tensor of one layer is quantized.
//!
//! [`Quantizer`] is an enum over the methods, each in its own file. A quantizer does not round by
//! itself: it describes the rounding to the operator that reads the tensor. One idea has one name on
//! its way there: a [`QuantizerConfig`] is what a plan says, a [`Quantizer`] the module with what it
//! learns, a [`Quantization`](crate::ops::Quantization) what the operator is told.

mod integers;
mod learned;
mod lower;
mod methods;
mod number;
mod shared_scale;
mod slot;
mod slots;
mod threshold_init;
mod watch;
mod widths;

pub use integers::Integers;
pub use learned::{
    LearnedParameter, bad_learned, learned, learned_at, set_retraining, with_learned,
};
pub use lower::{LayerKind, Lowering, lower};
pub use methods::*;
pub(crate) use methods::{
    Draws, Fans, StatedGrid, calibrated, learned_paths, unit_interval, with_rounding,
};
pub use number::Number;
pub use shared_scale::SharedScale;
pub use slot::{PerSlot, Slot};
pub(crate) use slots::Parameters;
pub use slots::Quantizers;
pub use threshold_init::ThresholdInit;
pub use watch::{
    Bin, Histogram, ModulePath, Observation, Observations, Place, Qualities, Quality, Selection,
    Signs, Switch, Tapped, Taps, measuring, observe, set_quantization,
};
pub(crate) use watch::{is_measuring, is_observing, marked, matches};
pub(crate) use widths::LearnedWidths;
