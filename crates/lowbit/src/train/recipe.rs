//! What a run does beside descending: the schedule of thresholds, and what is frozen when.

use std::collections::BTreeMap;

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::power;
use crate::optim::{Schedule, ThresholdOptimizer};
use crate::quantizers::{LearnedParameter, ModulePath, Role, learned, set_retraining};

/// A run's recipe; what is absent is not done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Epochs, or a part of one, after which the statistics of batch normalization are frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_statistics: Option<f64>,
    /// When thresholds are frozen, one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_thresholds: Option<FreezeThresholds>,
    /// The optimizer of thresholds.
    pub threshold_optimizer: ThresholdOptimizer,
    /// The learning rate of thresholds over the run; that of the weights unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_schedule: Option<Schedule>,
}

/// Freezes thresholds once they have converged, one at a time (arXiv 1903.08066, section 5.2): the
/// one whose gradient, averaged over the last `every` steps, has the smallest magnitude among those
/// that round up to the same integer as their moving average, so that each ends on the more
/// frequent side of an integer it swings around. Of the moving average, 0.9999 is kept in a step, as
/// in the authors' training script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeThresholds {
    /// Steps before the first time.
    pub from: usize,
    /// Steps from one time to the next, at least 1.
    pub every: usize,
}

impl Recipe {
    /// The recipe of TQT (section 5.2): thresholds train with Adam, their rate halved every
    /// `1000 (24 / batch)` steps; statistics are frozen after the first epoch; thresholds from
    /// step `1000 (24 / batch)` on, one every 50 steps.
    pub fn tqt(batch: usize) -> Self {
        let steps = (24_000 / batch.max(1)).max(1);
        Self {
            freeze_statistics: Some(1.0),
            freeze_thresholds: Some(FreezeThresholds {
                from: steps,
                every: 50,
            }),
            threshold_optimizer: ThresholdOptimizer::Adam,
            threshold_schedule: Some(Schedule::Exponential { factor: 0.5, steps }),
        }
    }

    /// Whether it asks for nothing.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(epochs) = self
            .freeze_statistics
            .filter(|e| !(e.is_finite() && *e >= 0.0))
        {
            let message = format!("is {epochs}, expected a number from 0 on");
            return Err(Error::config("freeze_statistics", message));
        }
        if self.freeze_thresholds.is_some_and(|f| f.every == 0) {
            return Err(Error::config(
                "freeze_thresholds.every",
                "is 0, expected at least 1",
            ));
        }
        if let ThresholdOptimizer::NormedSgd { beta } = self.threshold_optimizer
            && !(0.0..1.0).contains(&beta)
        {
            let message = format!("is {beta}, expected 0 to below 1");
            return Err(Error::config("threshold_optimizer.beta", message));
        }
        match &self.threshold_schedule {
            Some(schedule) => schedule.check().map_err(|e| e.within("threshold_schedule")),
            None => Ok(()),
        }
    }
}

/// What is known of the thresholds on their way; part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdState {
    /// By path, such as `conv1.weight`.
    pub tracked: BTreeMap<String, Tracked>,
    /// Paths of the frozen ones, in the order of freezing.
    pub frozen: Vec<String>,
}

/// One quantizer's thresholds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracked {
    /// Steps seen.
    pub steps: u32,
    /// Moving average of each `log2_threshold`, biased to zero.
    pub average: Vec<f64>,
    /// Sum of each gradient since the last freezing.
    pub gradient: Vec<f64>,
}

/// How much of the moving average of a threshold is kept in a step.
const KEPT: f64 = 0.9999;

impl Tracked {
    fn follow(&mut self, thresholds: &[f32], gradients: &[f32]) {
        self.average.resize(thresholds.len(), 0.0);
        self.gradient.resize(thresholds.len(), 0.0);
        self.steps += 1;
        for (average, &t) in self.average.iter_mut().zip(thresholds) {
            *average = KEPT * *average + (1.0 - KEPT) * f64::from(t);
        }
        for (sum, &g) in self.gradient.iter_mut().zip(gradients) {
            *sum += f64::from(g);
        }
    }

    /// Whether every threshold rounds up to the same integer as its average.
    fn is_settled(&self, thresholds: &[f32]) -> bool {
        let unbias = 1.0 - power(KEPT, self.steps as usize);
        let mut pairs = self.average.iter().zip(thresholds);
        pairs.all(|(average, &t)| (average / unbias).ceil() == f64::from(t.ceil()))
    }

    fn magnitude(&self) -> f64 {
        self.gradient.iter().map(|g| g.abs()).sum()
    }
}

impl ThresholdState {
    /// Whether nothing is known of any.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes note of a step's gradients and of the thresholds that they are of.
    pub fn follow<M: Module>(&mut self, model: &M, gradients: &GradientsParams) {
        for (path, thresholds, gradient) in trained(model, gradients) {
            let tracked = self.tracked.entry(path).or_default();
            tracked.follow(&thresholds, &gradient);
        }
    }

    /// Forgets the gradients so far, before those that freezing looks at.
    pub fn forget_gradients(&mut self) {
        for tracked in self.tracked.values_mut() {
            tracked.gradient.fill(0.0);
        }
    }

    /// Freezes one threshold of `model`, if one has converged.
    pub fn freeze_one<M: Module>(&mut self, model: M) -> M {
        let values = values(&model);
        let settled = self.tracked.iter().filter(|(path, tracked)| {
            let value = values.get(*path);
            !self.frozen.contains(path) && value.is_some_and(|v| tracked.is_settled(v))
        });
        let next = settled
            .min_by(|(_, a), (_, b)| a.magnitude().total_cmp(&b.magnitude()))
            .map(|(path, _)| path.clone());
        self.forget_gradients();
        match next {
            Some(path) => {
                self.frozen.push(path);
                self.apply(model)
            }
            None => model,
        }
    }

    /// Freezes in `model` what is frozen.
    pub fn apply<M: Module>(&self, model: M) -> M {
        let frozen = |place: &crate::quantizers::Place| self.frozen.contains(&place.to_string());
        set_retraining(model, false, frozen).0
    }
}

/// Every threshold of a network.
fn thresholds<M: Module>(model: &M) -> impl Iterator<Item = LearnedParameter> {
    let all = learned(model).into_iter();
    all.filter(|parameter| parameter.learned.role == Role::Log2Threshold)
}

/// Path, values and gradients of every threshold that has a gradient.
fn trained<M: Module>(model: &M, gradients: &GradientsParams) -> Vec<(String, Vec<f32>, Vec<f32>)> {
    let with_gradient = thresholds(model).filter_map(|parameter| {
        let gradient = gradients.get::<1>(parameter.id)?.into_data();
        let path = parameter.place.to_string();
        Some((path, parameter.values, gradient.iter::<f32>().collect()))
    });
    with_gradient.collect()
}

/// The thresholds of a network by path.
fn values<M: Module>(model: &M) -> BTreeMap<String, Vec<f32>> {
    let by_path = thresholds(model).map(|found| (found.place.to_string(), found.values));
    by_path.collect()
}

/// The network with the statistics of its batch normalizations frozen: from here on those are
/// applied in training, too, and no longer follow the batches. Also returns the paths of the
/// layers that this changed.
pub fn freeze_statistics<M: Module>(model: M) -> (M, Vec<String>) {
    let mut mapper = FreezeStatistics::default();
    let model = model.map(&mut mapper);
    (model, mapper.changed)
}

#[derive(Default)]
struct FreezeStatistics {
    path: ModulePath,
    changed: Vec<String>,
}

impl ModuleMapper for FreezeStatistics {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        if (self.path.holder_type(), self.path.field()) != ("BatchNorm", "training") {
            return flag;
        }
        if flag.is_enabled() {
            self.changed.push(self.path.holder());
        }
        flag.with_value(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_of_the_paper_at_its_batch() {
        // Table in section 5.2: N = 24 gives 1000 steps.
        let recipe = Recipe::tqt(24);
        assert_eq!(recipe.freeze_thresholds.unwrap().from, 1000);
        assert!(recipe.check().is_ok());
        assert_eq!(Recipe::tqt(64).freeze_thresholds.unwrap().from, 375);
    }

    #[test]
    fn a_threshold_on_the_rarer_side_of_an_integer_is_not_settled() {
        let mut tracked = Tracked::default();
        for i in 0..100 {
            let t = if i % 10 == 9 { 2.05 } else { 1.95 };
            tracked.follow(&[t], &[0.0]);
        }
        // The average is near 1.96.
        assert!(tracked.is_settled(&[1.95]));
        assert!(!tracked.is_settled(&[2.05]));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let recipe = Recipe {
            freeze_statistics: Some(-1.0),
            ..Recipe::default()
        };
        assert_eq!(
            recipe.check().unwrap_err().to_string(),
            "freeze_statistics: is -1, expected a number from 0 on"
        );
    }
}
