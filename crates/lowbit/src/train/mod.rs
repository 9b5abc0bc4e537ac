//! Training: what to train ([`Settings`], [`Experiment`]), what a network learns ([`Task`],
//! [`Objective`]), one network step by step ([`Trainer`]), and experiments on disk ([`RunFolder`]).

mod averaging;
mod bit_budget;
mod chain;
pub mod checkpoint;
mod clip;
mod comparison;
mod defaults;
mod distillation;
mod evaluation;
mod experiment;
mod first_weights;
mod folder;
mod integer_check;
mod integers;
mod keys;
mod loss_scale;
mod metrics;
mod objective;
mod options;
mod plan;
mod progress;
mod quantize;
pub mod recipe;
mod recipes;
mod regularization;
mod run;
mod settings;
pub mod sweep;
mod targets;
mod task;
mod tensorboard;
mod tensors;
mod trainer;
mod values;
mod warning;
mod weights_hash;
mod width_list;

pub use averaging::{AverageMetrics, Averaging, AveragingInterval};
pub use bit_budget::{BitBudget, MeanBits, mean_bits};
pub use burn::train::Interrupter;
pub use chain::{Cell, CellResult, Chain, ChainResults, Curve, USUAL_HOLD_OUT};
pub use checkpoint::Checkpoints;
pub use comparison::Comparison;
pub use distillation::{Distillation, Phases, Teacher, TeacherConfig, softened};
pub use evaluation::{Evaluation, evaluate_run, evaluate_teacher, measure_run, trained_network};
pub use experiment::{Experiment, RunConfig, Start};
pub use folder::{HeldOut, LastWeights, RunFolder, RunResult, best_checkpoint, find_run};
pub use integers::{
    compare_integers, compare_integers_on, compare_random_integers, first_integers,
    integer_accuracy, run_images, to_integers,
};
pub(crate) use keys::keys;
pub use loss_scale::{LossScale, LossScaling};
pub use metrics::{EpochMetrics, QuantizerMetrics, Tested};
pub use objective::Objective;
pub use options::{Command, Decides, Flag, Reason, SettingOption, Settings, Usage};
pub use progress::{Progress, StepMetrics};
pub use quantize::{LayerWidths, QuantizationReport, Quantize, layer_widths, quantization_report};
pub use recipe::Recipe;
pub use recipes::NamedRecipe;
pub use regularization::Regularization;
pub use run::Outcome;
pub(crate) use run::repaired_network;
pub use settings::ConfigFile;
pub use targets::Targets;
pub(crate) use task::forward_calibration;
pub use task::{Classification, Task, batch, evaluate};
pub use tensorboard::TensorBoard;
pub use tensors::{EpochTensors, NamedTensor};
pub use trainer::{Setting, Trainer};
pub use warning::{Moment, Warning, WarningKind};
pub use weights_hash::weights_sha256;
pub use width_list::WidthList;

pub use crate::bench;
pub use crate::config::Method;
