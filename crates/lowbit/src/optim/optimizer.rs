//! Optimizers of a whole network.

use burn::module::ParamGroup;
use burn::optim::{DynOptimizer, ModuleOptimizer, Optimizer};
use lowbit_formats::Format;
use serde::{Deserialize, Serialize};

use super::wageubn::direct;
use super::{
    Adam, LowPrecision, NormedSgd, OptimizerNumbers, Sgd, ShiftSgd, Wageubn, WageubnConfig,
};
use crate::Error;
use crate::ops::LargestPower;
use crate::quantizers::{Group, Learned, Number, learned_paths, unit_interval};

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
    /// Whole steps of the grid of WAGE's weights; see [`ShiftSgd`].
    Wage {
        /// Bits of the weights as they are kept.
        #[serde(default = "eight")]
        bits: u32,
    },
    /// The same of NITI's.
    Niti {
        /// Bits of the weights.
        #[serde(default = "eight")]
        bits: u32,
        /// Bits of the largest part of a gradient, at a rate of one.
        #[serde(default = "five")]
        gradient_bits: u32,
    },
    /// Integers with momentum; see [`Wageubn`].
    Wageubn(WageubnConfig),
}

fn eight() -> u32 {
    8
}

fn five() -> u32 {
    5
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
        let all = match self {
            &Self::Sgd {
                momentum,
                weight_decay,
            } => with_decay(weight_decay, numbers, |weight_decay| Sgd {
                momentum: momentum as f32,
                weight_decay,
            }),
            &Self::Wage { bits } => ShiftSgd::new(bits, 0, LargestPower::Nearest).into(),
            &Self::Niti {
                bits,
                gradient_bits,
            } => ShiftSgd::new(bits, gradient_bits as i32, LargestPower::Above).into(),
            Self::Wageubn(config) => {
                let optimizer = Wageubn::new(config.clone());
                optimizer.expect("a checked configuration").into()
            }
            &Self::Adam { weight_decay } => {
                with_decay(weight_decay, numbers, |weight_decay| Adam {
                    weight_decay,
                    decoupled_decay: 0.0,
                })
            }
            &Self::AdamW { weight_decay } => {
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
    /// Whether it rounds its numbers itself, and what weights are rounded to as training starts.
    pub fn own_numbers(&self) -> Option<OptimizerNumbers> {
        let weight = match self {
            Self::Wageubn(config) => direct(config.first_weight_bits),
            _ => self.grid()?,
        };
        Some(OptimizerNumbers {
            weight: Some(Number::nearest(weight)),
            from_start: true,
            ..OptimizerNumbers::default()
        })
    }

    /// The grid on which it leaves the weights, where it rounds them itself.
    pub fn grid(&self) -> Option<Format> {
        match self {
            Self::Wage { bits } | Self::Niti { bits, .. } => Some(unit_interval(*bits).into()),
            Self::Wageubn(config) => Some(direct(config.weight_bits)),
            _ => None,
        }
    }

    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        let (momentum, decay) = match self {
            Self::Sgd {
                momentum,
                weight_decay,
            } => (*momentum, *weight_decay),
            Self::Adam { weight_decay } | Self::AdamW { weight_decay } => (0.0, *weight_decay),
            Self::Wage { .. } | Self::Niti { .. } => (0.0, 0.0),
            Self::Wageubn(config) => {
                config.check()?;
                (f64::from(config.momentum), config.weight_decay)
            }
        };
        let widths = match self {
            Self::Wage { bits } => vec![("bits", bits)],
            Self::Niti {
                bits,
                gradient_bits,
            } => vec![("bits", bits), ("gradient_bits", gradient_bits)],
            _ => Vec::new(),
        };
        if let Some((field, bits)) = widths.iter().find(|(_, bits)| !(2..=24).contains(*bits)) {
            return Err(Error::config(
                *field,
                format!("is {bits}, expected 2 to 24"),
            ));
        }
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
