//! What is wrong with a network although its loss is a number.

use std::fmt;

use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::task::{Task, forward_calibration};
use crate::calibrate::{Measured, measure};
use crate::quantizers::{Selection, Slot, Tapped, Taps, UNTRAINED_STEP, set_rounding};

/// Examples that tell.
const EXAMPLES: usize = 32;

/// More clipped values than a threshold that follows its tensor leaves.
const MOST_CLIPPED: f64 = 0.5;

/// Something that a person should know of a tensor of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// The tensor's path, such as `conv1.weight`.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: WarningKind,
    /// When it was seen first, of what goes on; none of a network that was not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Moment>,
}

/// A place in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Steps of the optimizer that were done in it.
    pub step: usize,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} of epoch {}", self.step, self.epoch)
    }
}

impl Warning {
    fn new(path: String, kind: WarningKind) -> Self {
        let since = None;
        Self { path, kind, since }
    }

    /// Whether both say the same of the same tensor, whatever the numbers.
    pub fn repeats(&self, before: &Self) -> bool {
        let kind = |warning: &Self| std::mem::discriminant(&warning.kind);
        self.path == before.path && kind(self) == kind(before)
    }
}

/// The warnings of now, each with the moment that those of before have of it, or else `now`.
pub(super) fn dated(mut warnings: Vec<Warning>, before: &[Warning], now: Moment) -> Vec<Warning> {
    for warning in &mut warnings {
        let known = before.iter().find(|known| warning.repeats(known));
        warning.since = known.and_then(|known| known.since).or(Some(now));
    }
    warnings
}

/// What can be wrong with a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WarningKind {
    /// A threshold is so large that every value is rounded to zero.
    AllZero {
        /// The threshold's power of two.
        threshold: f64,
    },
    /// A threshold is so small that most values are beyond it.
    Clipped {
        /// The fraction of them.
        fraction: f64,
        /// The threshold's power of two.
        threshold: f64,
    },
    /// Sums do not fit their accumulator.
    Saturated {
        /// The fraction of them.
        fraction: f64,
        /// The accumulator's bits.
        bits: u32,
    },
    /// A layer hands on numbers that are NaN or infinite.
    NotFinite {
        /// How many.
        values: u64,
    },
    /// A layer hands on the same number everywhere, whatever it reads.
    Constant {
        /// That number.
        value: f32,
    },
}

/// `conv1.weight: the threshold 2^20 makes every value 0, seen first after step 34 of epoch 2`.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, kind) = (&self.path, &self.kind);
        write!(f, "{path}: {kind}")?;
        self.since
            .map_or(Ok(()), |since| write!(f, ", seen first after {since}"))
    }
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            WarningKind::AllZero { threshold } => {
                let log2 = threshold.log2();
                write!(f, "the threshold 2^{log2} makes every value 0")
            }
            WarningKind::Clipped {
                fraction,
                threshold,
            } => {
                let (percent, log2) = (100.0 * fraction, threshold.log2());
                write!(
                    f,
                    "the threshold 2^{log2} clips {percent:.1} % of the values"
                )
            }
            WarningKind::Saturated { fraction, bits } => {
                let percent = 100.0 * fraction;
                write!(f, "{percent:.4} % of the sums saturate in {bits} bits")
            }
            WarningKind::NotFinite { values } => {
                write!(f, "{values} values are NaN or infinite")
            }
            WarningKind::Constant { value } => {
                write!(f, "every value is {value}, whatever the layer reads")
            }
        }
    }
}

/// What a few training examples show of a network in its validation form.
pub(super) struct Look {
    /// What quantizers with a trained threshold and accumulators do.
    pub(super) measured: Vec<Measured>,
    /// What each layer hands on.
    pub(super) outputs: Vec<Tapped>,
}

/// Looks at a network. Taps of somebody else on this thread stay, and outputs are then not looked at.
pub(super) fn look<M: Module>(model: &M, task: &impl Task<M>, seed: u64) -> Look {
    set_rounding(seed, UNTRAINED_STEP);
    let outputs = Selection {
        slots: vec![Slot::OUTPUT.into()],
        ..Selection::all()
    };
    let taps = (!Taps::are_attached()).then(|| Taps::attach(model, outputs));
    let measured = measure(model, |model| {
        forward_calibration(task, model, EXAMPLES, seed);
    });
    Look {
        measured,
        outputs: taps.map(Taps::detach).unwrap_or_default(),
    }
}

impl Look {
    /// The path of the first tensor on the way that has numbers which are NaN or infinite.
    pub(super) fn first_not_finite(&self) -> Option<String> {
        let finite = |tapped: &&Tapped| tapped.tensor.iter::<f32>().all(f32::is_finite);
        let broken = self.outputs.iter().find(|tapped| !finite(tapped));
        broken.map(Tapped::path)
    }

    /// Thresholds that ran away from their tensors, sums that saturate, layers that hand on one number or
    /// none.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let measured = self.measured.iter().filter_map(of_measured);
        let outputs = self.outputs.iter().filter_map(of_output);
        measured.chain(outputs).collect()
    }
}

fn of_output(tapped: &Tapped) -> Option<Warning> {
    let values = || tapped.tensor.iter::<f32>();
    let path = tapped.path();
    let broken = values().filter(|x| !x.is_finite()).count() as u64;
    if broken > 0 {
        let kind = WarningKind::NotFinite { values: broken };
        return Some(Warning::new(path, kind));
    }
    // Zero has one sign here.
    let value = values().next()? + 0.0;
    let several = tapped.tensor.num_elements() > 1;
    let kind = WarningKind::Constant { value };
    (several && values().all(|x| x == value)).then(|| Warning::new(path, kind))
}

fn of_measured(tensor: &Measured) -> Option<Warning> {
    let threshold = tensor.threshold.iter().copied().fold(0.0, f64::max);
    let is_sum = tensor.log2_threshold.is_empty();
    // All noise and no direction: something was there, and nothing is left.
    let kind = if tensor.sqnr == Some(0.0) && tensor.cosine.is_none() {
        WarningKind::AllZero { threshold }
    } else if is_sum && tensor.clipped > 0.0 {
        WarningKind::Saturated {
            fraction: tensor.clipped,
            bits: tensor.bits,
        }
    } else if !is_sum && tensor.clipped > MOST_CLIPPED {
        WarningKind::Clipped {
            fraction: tensor.clipped,
            threshold,
        }
    } else {
        return None;
    };
    Some(Warning::new(tensor.path.clone(), kind))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use burn::train::TrainOutput;

    use super::*;
    use crate::config::TqtPlan;
    use crate::nn::{Linear, LinearConfig};
    use crate::quantizers::Quantizer;
    use crate::train::checkpoint::Sums;

    #[derive(Module, Debug)]
    struct Net {
        linear: Linear,
    }

    /// Two inputs, 1 and -1/2.
    struct Two;

    impl Task<Net> for Two {
        type Output = ();

        fn examples(&self) -> usize {
            1
        }

        fn step(
            &self,
            _model: &Net,
            _indices: &[u32],
            _epoch: u32,
            _loss_scale: f32,
        ) -> TrainOutput<()> {
            unreachable!("nothing is trained")
        }

        fn count(&self, _output: &(), _sums: &mut Sums) {}

        fn test(&self, _model: &Net) -> Sums {
            Sums::default()
        }

        fn forward(&self, model: &Net, _indices: &[u32]) {
            let x = Tensor::<2>::from_floats([[1.0, -0.5], [0.25, 0.5]], &Device::flex());
            model.linear.forward(x);
        }
    }

    /// Weights of 0.75 and 0.5, and an accumulator of so many bits.
    fn said(log2_input: f32, log2_weight: f32, accumulator: u32) -> Vec<String> {
        let device = Device::flex();
        let config = TqtPlan::new(4, 4).plan().default;
        let config = config.with_accumulator(accumulator);
        let linear = LinearConfig::new(2, 1).with_bias(false);
        let mut linear = linear.with_quantization(config).init(&device);
        linear.weight = linear
            .weight
            .map(|_| Tensor::from_floats([[0.75], [0.5]], &device));
        for (slot, log2) in [("input", log2_input), ("weight", log2_weight)] {
            let Some(Quantizer::TrainedThreshold(tqt)) = linear.quantizers.get_mut(slot) else {
                panic!("no threshold")
            };
            let threshold = Tensor::from_floats([log2], &device);
            tqt.log2_threshold = tqt.log2_threshold.clone().map(|_| threshold);
        }
        let warnings = look(&Net { linear }, &Two, 0).warnings();
        warnings.iter().map(Warning::to_string).collect()
    }

    #[test]
    fn what_runs_away_is_named() {
        assert_eq!(said(0.0, 0.0, 32), Vec::<String>::new());
        // Half a step of 2^8 / 8 is 16; the sums are then zero, too.
        let all_zero = "linear.weight: the threshold 2^8 makes every value 0";
        let constant = "linear.output: every value is 0, whatever the layer reads";
        assert_eq!(said(0.0, 8.0, 32), [all_zero, constant]);
        // All four are beyond 2^-8.
        let clipped = "linear.input: the threshold 2^-8 clips 100.0 % of the values";
        assert_eq!(said(-8.0, 0.0, 32), [clipped]);
    }

    /// In eighths, inputs are 7 (of 8, clipped) and -4, and 2 and 4; weights 6 and 4. The sums are
    /// 26 and 28 in 64ths: beyond the 15 of five bits, not beyond the 31 of six.
    #[test]
    fn sums_that_saturate_are_named() {
        let saturated = "linear.accumulator: 100.0000 % of the sums saturate in 5 bits";
        let constant = "linear.output: every value is 0.234375, whatever the layer reads";
        assert_eq!(said(0.0, 0.0, 5), [saturated, constant]);
        assert_eq!(said(0.0, 0.0, 6), Vec::<String>::new());
    }

    /// What goes on has the moment when it was seen first, whatever its numbers, and what is new that of now.
    #[test]
    fn a_warning_says_since_when() {
        let clipped = |path: &str, fraction| {
            let threshold = 2.0;
            let kind = WarningKind::Clipped {
                fraction,
                threshold,
            };
            Warning::new(path.into(), kind)
        };
        let at = |epoch, step| Moment { epoch, step };
        let first = dated(vec![clipped("a", 0.6)], &[], at(1, 50));
        let second = dated(
            vec![clipped("a", 0.75), clipped("b", 0.6)],
            &first,
            at(2, 7),
        );
        let said: Vec<String> = second.iter().map(Warning::to_string).collect();
        assert_eq!(
            said,
            [
                "a: the threshold 2^1 clips 75.0 % of the values, seen first after step 50 of epoch 1",
                "b: the threshold 2^1 clips 60.0 % of the values, seen first after step 7 of epoch 2"
            ]
        );
        assert!(dated(Vec::new(), &second, at(3, 1)).is_empty());
    }
}
