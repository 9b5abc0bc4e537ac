//! Training: what to train ([`Settings`], [`Experiment`]), one network step by step ([`Trainer`]),
//! and experiments on disk ([`RunFolder`]).

pub mod bench;
pub mod checkpoint;
mod experiment;
mod files;
mod progress;
mod run;
mod settings;
mod trainer;

pub use burn::train::Interrupter;
pub use checkpoint::Checkpoints;
pub use experiment::{Experiment, RunConfig, Start};
pub use progress::Progress;
pub use run::{
    EpochMetrics, Evaluation, Outcome, RunFolder, RunResult, best_checkpoint, evaluate_run,
    find_run,
};
pub use settings::{ConfigFile, Method, Settings};
pub use trainer::{Setting, Trainer, batch, evaluate};
