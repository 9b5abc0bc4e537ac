//! What can be said about a quantizer or a quantized network: numbers and pictures.

mod analysis;
mod chain;
mod page;
mod quantizer_curve;
mod runs;
mod statistics;
pub mod summary;
mod sweep;
mod sweep_picture;
pub mod table;
mod threshold_curves;
mod training_curves;
mod width_front;

pub use analysis::AnalysisReport;
pub use chain::{ChainPoint, ChainReport};
pub use page::{Figure, NamedTable};
pub use quantizer_curve::{CurveConfig, QuantizerCurve};
pub use runs::{ComparedRun, RunsReport};
pub use sweep::{CellReport, Mean, SweepReport};
pub use table::{Alignment, Table};
pub use training_curves::TrainingCurves;
pub use width_front::{FrontPoint, WidthFront};
