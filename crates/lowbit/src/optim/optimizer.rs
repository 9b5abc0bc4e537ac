//! Optimizers of a whole network.

use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, SgdConfig};
use serde::{Deserialize, Serialize};

/// An optimizer and its constants; learning rates come from a [`Schedule`](super::Schedule).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
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
    ParamGroup::from_predicate("log2_threshold")
}

impl OptimizerConfig {
    /// Builds the optimizer. Thresholds always train with Adam and without decay (arXiv
    /// 1903.08066, appendix B.2): their gradient has no natural scale.
    pub fn init(&self) -> ModuleOptimizer {
        let all: ModuleOptimizer = match *self {
            Self::Sgd {
                momentum,
                weight_decay,
            } => {
                let momentum = (momentum != 0.0).then(|| MomentumConfig {
                    momentum,
                    dampening: 0.0,
                    nesterov: false,
                });
                SgdConfig::new()
                    .with_momentum(momentum)
                    .with_weight_decay(decay(weight_decay))
                    .init()
            }
            Self::Adam { weight_decay } => AdamConfig::new()
                .with_epsilon(1e-8)
                .with_weight_decay(decay(weight_decay))
                .init(),
            Self::AdamW { weight_decay } => AdamWConfig::new()
                .with_epsilon(1e-8)
                .with_weight_decay(weight_decay)
                .init(),
        };
        all.with_group(
            thresholds(),
            AdamConfig::new().with_epsilon(1e-8).build(),
            None,
        )
    }
}

fn decay(penalty: f32) -> Option<WeightDecayConfig> {
    (penalty != 0.0).then(|| WeightDecayConfig::new(penalty))
}
