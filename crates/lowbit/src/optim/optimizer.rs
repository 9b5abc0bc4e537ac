//! Optimizers of a whole network.

use burn::module::ParamGroup;
use burn::optim::{DynOptimizer, ModuleOptimizer, Optimizer};
use serde::{Deserialize, Serialize};

use super::{Adam, LowPrecision, NormedSgd, OptimizerNumbers, Sgd};
use crate::Error;
use crate::quantizers::{Group, Learned, learned_paths};

/// An optimizer and its constants; learning rates come from a [`Schedule`](super::Schedule).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// Stochastic gradient descent: `v = momentum v + (g + weight_decay w)`, `w = w - lr v`.
    Sgd {
        /// How much of the last step is kept.
        #[serde(default = "momentum")]
        momentum: f64,
        /// Factor of the weights that is added to their gradient.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Adam (Kingma, Ba, arXiv 1412.6980) with its usual constants 0.9, 0.999 and 1e-8.
    Adam {
        /// Factor of the weights that is added to their gradient.
        #[serde(default)]
        weight_decay: f32,
    },
    /// AdamW (Loshchilov, Hutter, arXiv 1711.05101): the decay acts on the weights themselves.
    AdamW {
        /// Factor of the weights, times the learning rate, that each step takes away.
        #[serde(default)]
        weight_decay: f32,
    },
}

fn momentum() -> f64 {
    0.9
}

/// The thresholds of a network, by their path.
pub fn thresholds() -> ParamGroup {
    learned_group(|learned| learned.group == Some(Group::Thresholds))
        .expect("some method trains thresholds")
}

/// What quantizers learn with the optimizer of the weights, but without decay, by their path; if
/// some method has such.
pub(super) fn undecayed() -> Option<ParamGroup> {
    learned_group(|learned| learned.group == Some(Group::Weights) && !learned.decay)
}

fn learned_group(wanted: impl Fn(&Learned) -> bool) -> Option<ParamGroup> {
    let paths = learned_paths().filter(|(_, learned)| wanted(learned));
    let paths: Vec<String> = paths.map(|(path, _)| path).collect();
    (!paths.is_empty()).then(|| ParamGroup::from_any_predicates(paths))
}

/// The optimizer of thresholds, always without decay: their gradient has no natural scale (arXiv
/// 1903.08066, appendix B).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ThresholdOptimizer {
    /// Adam, which brings gradients of any scale to one.
    #[default]
    Adam,
    /// Gradient descent on normed log gradients; see [`NormedSgd`].
    NormedSgd {
        /// How much of the average of squares is kept, 0 to below 1.
        #[serde(default = "beta")]
        beta: f32,
    },
}

fn beta() -> f32 {
    NormedSgd::BETA
}

/// The optimizer that `with` makes with this decay, in these numbers; for what quantizers learn that
/// does not decay, without, and in float.
fn with_decay<O>(decay: f32, numbers: &OptimizerNumbers, with: impl Fn(f32) -> O) -> ModuleOptimizer
where
    O: Optimizer + DynOptimizer + 'static,
    LowPrecision<O>: DynOptimizer,
{
    let all = match numbers.is_float() {
        true => ModuleOptimizer::from(with(decay)),
        false => LowPrecision::new(with(decay), numbers.clone()).into(),
    };
    match undecayed() {
        Some(group) => all.with_group(group, with(0.0), None),
        None => all,
    }
}

impl OptimizerConfig {
    /// Builds the optimizer, with Adam for thresholds.
    pub fn init(&self) -> ModuleOptimizer {
        self.init_with(ThresholdOptimizer::Adam, &OptimizerNumbers::default())
    }

    /// Builds the optimizer with its numbers in these formats, and another one for thresholds. What
    /// quantizers learn beside them decays only where the method says so.
    pub fn init_with(
        &self,
        for_thresholds: ThresholdOptimizer,
        numbers: &OptimizerNumbers,
    ) -> ModuleOptimizer {
        let all = match *self {
            Self::Sgd {
                momentum,
                weight_decay,
            } => with_decay(weight_decay, numbers, |weight_decay| Sgd {
                momentum: momentum as f32,
                weight_decay,
            }),
            Self::Adam { weight_decay } => with_decay(weight_decay, numbers, |weight_decay| Adam {
                weight_decay,
                decoupled_decay: 0.0,
            }),
            Self::AdamW { weight_decay } => {
                with_decay(weight_decay, numbers, |decoupled_decay| Adam {
                    weight_decay: 0.0,
                    decoupled_decay,
                })
            }
        };
        let adam = Adam {
            weight_decay: 0.0,
            decoupled_decay: 0.0,
        };
        match for_thresholds {
            ThresholdOptimizer::Adam => all.with_group(thresholds(), adam, None),
            ThresholdOptimizer::NormedSgd { beta } => {
                all.with_group(thresholds(), NormedSgd { beta }, None)
            }
        }
    }
}

impl OptimizerConfig {
    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        let (momentum, decay) = match *self {
            Self::Sgd {
                momentum,
                weight_decay,
            } => (momentum, weight_decay),
            Self::Adam { weight_decay } | Self::AdamW { weight_decay } => (0.0, weight_decay),
        };
        if !(0.0..1.0).contains(&momentum) {
            return Err(Error::config(
                "momentum",
                format!("is {momentum}, expected 0 to below 1"),
            ));
        }
        if !(decay.is_finite() && decay >= 0.0) {
            let message = format!("is {decay}, expected a number from 0 on");
            return Err(Error::config("weight_decay", message));
        }
        Ok(())
    }
}
