//! What can be said about a quantizer or a quantized network: numbers and pictures.

mod accumulator;
mod chain;
mod quantizer_curve;
mod statistics;
pub mod summary;
mod sweep;
mod sweep_picture;
pub mod table;
mod training_curves;
mod width_front;

pub use accumulator::{AccumulatorBits, accumulator_bits};
pub use chain::{ChainPoint, ChainReport};
pub use quantizer_curve::{CurveConfig, QuantizerCurve};
pub use sweep::{CellReport, Mean, SweepReport};
pub use table::Table;
pub use training_curves::TrainingCurves;
pub use width_front::{FrontPoint, WidthFront};
