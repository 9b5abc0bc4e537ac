//! Averaging the weights of a run.

use std::fmt;
use std::str::FromStr;

use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::checkpoint::Sums;
use super::metrics::Tested;
use super::options::Settings;
use super::task::Task;
use super::trainer::Setting;
use crate::Error;
use crate::data::epoch_order;
use crate::nn::{estimate_statistics, has_statistics};
use crate::optim::WeightAverage;
use crate::quantizers::{Number, UNTRAINED_STEP, set_rounding};

/// Stochastic weight averaging (arXiv 1803.05407; in low precision SWALP, arXiv 1904.11943).
///
/// A run trains for `start` epochs with its schedule, which ends there. Then it goes on with the
/// constant learning rate `rate`, and the average ([`WeightAverage`]) takes in the weights there
/// and `every` so often. From there on each epoch ends with the average: the statistics of batch
/// normalizations are estimated afresh with it, from a pass over the training examples as that
/// epoch saw them, unless the recipe froze them; it is tested; and the checkpoint's model is the
/// average, beside the weights that training goes on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Averaging {
    /// Epochs before the first weights are taken in, less than the run's.
    pub start: usize,
    /// How often weights are taken in from there on.
    #[serde(default)]
    pub every: AveragingInterval,
    /// The learning rate of the weights from there on.
    pub rate: f64,
    /// What the average is rounded to each time; float unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Number>,
}

/// How often weights are averaged. Text: `1 epoch`, `3 epochs`, `100 steps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AveragingInterval {
    /// Every so many epochs, at least 1.
    Epochs(usize),
    /// Every so many steps, at least 1.
    Steps(usize),
}

impl Default for AveragingInterval {
    fn default() -> Self {
        Self::Epochs(1)
    }
}

impl fmt::Display for AveragingInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match *self {
            Self::Epochs(count) => (count, "epoch"),
            Self::Steps(count) => (count, "step"),
        };
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} {unit}{plural}")
    }
}

impl FromStr for AveragingInterval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Unknown {
            kind: "interval",
            text: text.into(),
            expected: "N epochs or N steps, N at least 1",
        };
        let (count, unit) = text.split_once(' ').ok_or_else(unknown)?;
        let count = count.parse().ok().filter(|&count| count > 0);
        match (count, unit) {
            (Some(count), "epoch" | "epochs") => Ok(Self::Epochs(count)),
            (Some(count), "step" | "steps") => Ok(Self::Steps(count)),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for AveragingInterval {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<AveragingInterval> for String {
    fn from(interval: AveragingInterval) -> Self {
        interval.to_string()
    }
}

impl Averaging {
    /// Whether every field is in its range, in a run of so many epochs.
    pub fn check(&self, epochs: usize) -> Result<(), Error> {
        let refused = |field, message| Err(Error::config(field, message));
        if self.start >= epochs {
            let message = format!("is {}, expected less than the {epochs} epochs", self.start);
            return refused("start", message);
        }
        if let AveragingInterval::Epochs(0) | AveragingInterval::Steps(0) = self.every {
            return refused("every", "is 0, expected at least 1".into());
        }
        if !(self.rate.is_finite() && self.rate > 0.0) {
            let message = format!("is {}, expected a positive number", self.rate);
            return refused("rate", message);
        }
        match self
            .format
            .as_ref()
            .map(|number| number.rounding.validate())
        {
            Some(Err(error)) => refused("format", error.to_string()),
            _ => Ok(()),
        }
    }

    /// Whether an average of so many weights is to take in those after so many steps.
    fn is_due(&self, steps: usize, steps_per_epoch: usize, count: u64) -> bool {
        let every = match self.every {
            AveragingInterval::Epochs(epochs) => epochs.saturating_mul(steps_per_epoch),
            AveragingInterval::Steps(steps) => steps,
        };
        let since = steps.checked_sub(self.start.saturating_mul(steps_per_epoch));
        since.is_some_and(|since| since % every == 0 && count == (since / every) as u64)
    }
}

/// What of the learning rate is left for the averaging phase unless given: that of SWALP's example,
/// 0.01 of 0.05.
const USUAL_RATE: f64 = 0.2;

impl Settings {
    /// What they say of averaging in a run of that learning rate, where it was `before`.
    ///
    /// # Errors
    /// If they say how, but nothing is averaged.
    pub(super) fn averaging(
        &self,
        before: Option<Averaging>,
        lr: f64,
    ) -> Result<Option<Averaging>, Error> {
        let start = self.swa_start.or(before.as_ref().map(|swa| swa.start));
        let Some(start) = start else {
            let how = |name: &str| name.starts_with("swa_");
            return match self.first(|option| how(option.name)) {
                None => Ok(None),
                Some(field) => {
                    let message = "nothing is averaged, expected swa_start, too";
                    Err(Error::config(field, message))
                }
            };
        };
        let before = before.unwrap_or(Averaging {
            start,
            every: AveragingInterval::default(),
            rate: USUAL_RATE * lr,
            format: None,
        });
        Ok(Some(Averaging {
            start,
            every: self.swa_every.unwrap_or(before.every),
            rate: self.swa_rate.unwrap_or(before.rate),
            format: self.swa_format.clone().or(before.format),
        }))
    }
}

/// What the average of weights came to after an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AverageMetrics {
    /// How many weights it is the mean of.
    pub weights: u64,
    /// Mean loss of the test images.
    pub test_loss: f64,
    /// Fraction of them that is right.
    pub test_accuracy: f64,
    /// Fraction of them whose class is among the five highest scores, where there are more classes
    /// than five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_top5_accuracy: Option<f64>,
    /// What the held-out images say of it, where images are held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Tested>,
}

/// The average of a run on its way.
pub(super) struct Average<'a, M> {
    config: Option<&'a Averaging>,
    pub(super) mean: WeightAverage,
    /// The network with the average, after an epoch that ended with it.
    pub(super) model: Option<M>,
}

/// Tells the random numbers that round an average from those of the steps: "mean" in ASCII.
const SEED: u64 = 0x6d65_616e;

impl<'a, M: Module> Average<'a, M> {
    /// The average at the start of a run.
    pub(super) fn new(config: Option<&'a Averaging>) -> Self {
        let number = config.and_then(|config| config.format.clone());
        Self {
            config,
            mean: WeightAverage::new(number),
            model: None,
        }
    }

    /// The constant learning rate after so many steps, or the steps that the schedule has before.
    pub(super) fn rate(&self, steps: usize, steps_per_epoch: usize) -> Rate {
        match self.config {
            None => Rate::Scheduled(None),
            Some(config) => match config.start * steps_per_epoch {
                total if steps < total => Rate::Scheduled(Some(total)),
                _ => Rate::Constant(config.rate),
            },
        }
    }

    /// Takes in the weights after so many steps, if it is time to. What was made of the average
    /// before is of the past then.
    pub(super) fn follow(&mut self, model: &M, steps: usize, steps_per_epoch: usize, seed: u64) {
        self.model = None;
        let Some(config) = self.config else { return };
        if config.is_due(steps, steps_per_epoch, self.mean.count()) {
            if config.format.is_some() {
                set_rounding(seed ^ SEED, steps as u64);
            }
            self.mean.include(model);
        }
    }

    /// Whether a network that was best after `epoch` is none of the averages, which alone count
    /// once there are any.
    pub(super) fn is_before(&self, epoch: usize) -> bool {
        self.config.is_some_and(|config| epoch < config.start)
    }

    /// Makes the network with the average and tests it, if there is one. `epoch` is the one that
    /// has ended, from 0; with frozen statistics, those are kept.
    pub(super) fn test<T: Task<M>>(
        &mut self,
        model: &M,
        setting: &Setting<T>,
        epoch: u32,
        frozen: bool,
    ) -> Option<(Sums, Option<Sums>)> {
        if self.mean.count() == 0 {
            return None;
        }
        // The validation form has statistics of its own: a copy shares those of the original.
        let mut averaged = self.mean.apply(model.valid());
        if !frozen && has_statistics(&averaged) {
            set_rounding(setting.seed, UNTRAINED_STEP);
            let order = epoch_order(setting.task.examples(), setting.seed, u32::MAX);
            let batches: Vec<&[u32]> = order.chunks(setting.batch).collect();
            let examples: Vec<usize> = batches.iter().map(|batch| batch.len()).collect();
            let live = averaged.train();
            estimate_statistics(&live, &examples, |model, i| {
                setting.task.forward_training(model, batches[i], epoch);
            });
            averaged = live.valid();
        }
        let tested = (
            setting.task.test(&averaged),
            setting.task.held_out(&averaged),
        );
        self.model = Some(averaged);
        Some(tested)
    }
}

/// Where a learning rate comes from.
pub(super) enum Rate {
    /// The schedule, over so many steps or the whole run.
    Scheduled(Option<usize>),
    /// A number.
    Constant(f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn averaging() -> Averaging {
        Averaging {
            start: 2,
            every: AveragingInterval::Steps(3),
            rate: 0.01,
            format: None,
        }
    }

    /// Epochs of five steps: from step 10 on, every third.
    #[test]
    fn weights_are_taken_in_at_their_steps_and_once() {
        let swa = averaging();
        let mut taken = Vec::new();
        for steps in 0..20 {
            // Asking twice, as a resumed run does, changes nothing.
            for _ in 0..2 {
                if swa.is_due(steps, 5, taken.len() as u64) {
                    taken.push(steps);
                }
            }
        }
        assert_eq!(taken, [10, 13, 16, 19]);
        let by_epoch = Averaging {
            every: AveragingInterval::Epochs(1),
            ..swa
        };
        assert!(by_epoch.is_due(15, 5, 1) && !by_epoch.is_due(16, 5, 1));
    }

    #[test]
    fn intervals_go_both_ways() {
        for text in ["1 epoch", "3 epochs", "1 step", "100 steps"] {
            let interval: AveragingInterval = text.parse().unwrap();
            assert_eq!(interval.to_string(), text);
        }
        for text in ["", "3", "0 epochs", "epochs 3", "3  steps", "-1 steps"] {
            assert_eq!(
                text.parse::<AveragingInterval>().unwrap_err().to_string(),
                format!("unknown interval `{text}`, expected N epochs or N steps, N at least 1")
            );
        }
    }

    #[test]
    fn settings_complete_what_is_averaged() {
        let experiment = |text: &str| {
            let settings: Settings = toml::from_str(text).unwrap();
            settings.complete()
        };
        let text = "method = \"float\"\nepochs = 9\nlr = 0.5\nswa_start = 6";
        let plain = experiment(text).unwrap();
        let swa = plain.runs[0].swa.clone().unwrap();
        assert_eq!((swa.start, swa.rate), (6, 0.1));
        let text = plain.to_toml().unwrap();
        let read = super::super::Experiment::from_toml("x".as_ref(), &text).unwrap();
        assert_eq!(read, plain);
        let changed = Settings {
            swa_every: Some(AveragingInterval::Steps(4)),
            ..Settings::default()
        };
        let changed = plain.with(&changed).unwrap().runs[0].swa.clone().unwrap();
        assert_eq!(
            (changed.start, changed.every),
            (6, AveragingInterval::Steps(4))
        );
        let refused = |text: &str| experiment(text).unwrap_err().to_string();
        assert_eq!(
            refused("swa_rate = 0.1"),
            "swa_rate: nothing is averaged, expected swa_start, too"
        );
        assert_eq!(
            refused("epochs = 3\nswa_start = 3"),
            "runs[0].swa.start: is 3, expected less than the 3 epochs"
        );
        assert_eq!(
            refused("epochs = 3\nswa_start = 1\nswa_rate = 0.0"),
            "runs[0].swa.rate: is 0, expected a positive number"
        );
    }
}
