//! Training: what to train ([`Settings`], [`Experiment`]), one network step by step ([`Trainer`]),
//! and experiments on disk ([`RunFolder`]).

pub mod bench;
pub mod checkpoint;
mod evaluation;
mod experiment;
mod metrics;
mod progress;
mod quantize;
pub mod recipe;
mod run;
mod settings;
mod trainer;

pub use burn::train::Interrupter;
pub use checkpoint::Checkpoints;
pub use evaluation::{Evaluation, best_checkpoint, evaluate_run, find_run, trained_network};
pub use experiment::{Experiment, RunConfig, Start};
pub use metrics::EpochMetrics;
pub use progress::Progress;
pub use quantize::{LayerWidths, QuantizationReport, Quantize, layer_widths, quantization_report};
pub use recipe::Recipe;
pub use run::{Outcome, RunFolder, RunResult};
pub use settings::{ConfigFile, Method, Settings};
pub use trainer::{Setting, Trainer, batch, evaluate};
