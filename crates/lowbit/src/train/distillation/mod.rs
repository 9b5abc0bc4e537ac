//! Learning from another network: what a student's loss is beside that of the labels.

mod learner;
mod task;
mod teacher;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::options::Settings;
use crate::Error;
use crate::ops::kl_divergence;

pub use teacher::{Teacher, TeacherConfig};
pub(super) use {learner::Learner, task::Distilled};

/// `(1 - w) loss + w T^2 KL(softmax(other / T) || softmax(scores / T))` of a weight `w` and a temperature `T`; what has
/// no part in it is not computed (Hinton, Vinyals, Dean, arXiv 1503.02531, section 2). Another network's scores get
/// no gradient.
///
/// # Shapes
/// - `loss` and the result: `[1]`
/// - `scores`, `other`: `[batch, classes]`
pub fn softened(
    loss: Tensor<1>,
    scores: Tensor<2>,
    other: Tensor<2>,
    (weight, temperature): (f64, f64),
) -> Tensor<1> {
    if weight == 0.0 {
        return loss;
    }
    let divergence = kl_divergence(scores, other, temperature);
    let divergence = divergence * (weight * temperature * temperature);
    match weight == 1.0 {
        true => divergence,
        false => loss * (1.0 - weight) + divergence,
    }
}

/// What a run learns from a teacher. With the weight `w` and the temperature `T` its loss is
///
/// `(1 - w) objective(scores, labels) + w T^2 KL(softmax(teacher / T) || softmax(scores / T))`
///
/// (Hinton, Vinyals, Dean, arXiv 1503.02531, section 2), where the divergence is a mean over the
/// batch and a sum over the classes ([`kl_divergence`](crate::ops::kl_divergence)), and the objective
/// is the run's own, the cross-entropy unless told. `T^2` keeps the gradient of the second term of
/// one size at any temperature. To it are added, where their weights are given,
///
/// - `feature_weight * sum over stages of mean (r(x) - y)^2`, of what each stage of the student, `x`,
///   and of the teacher, `y`, hands on: FitNets' hints (arXiv 1412.6550, equation 3), at every stage.
///   Where they have different numbers of channels, `r` is a 1x1 convolution without bias, which is
///   learned with the student and is not part of it; elsewhere it is not there.
/// - `attention_weight / 2 * sum over stages of the distance of normed attention maps`
///   ([`attention_distance`](crate::ops::attention_distance); arXiv 1612.03928, equation 2).
///
/// Both networks see the same images, crops and flips included. The teacher is in its validation
/// form and gets no gradients; nothing of it is in a run's checkpoints.
///
/// Temperature 5 and weight 0.05, the defaults, are those of njesus15's
/// `TA-Knowledge-Distillation-for-Low-Precision-Neural-Networks`; 4 and 0.9 are common elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// What both networks' scores are divided by.
    pub temperature: f64,
    /// How much of the loss is the teacher's, 0 to 1.
    pub weight: f64,
    /// Whether labels take part; without them `weight` is 1. Accuracies are counted all the same.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub labels: bool,
    /// The weight of the distance of features.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub feature_weight: f64,
    /// The weight of the distance of attention maps.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attention_weight: f64,
    /// Which epochs learn otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phases: Option<Phases>,
    /// The teacher.
    pub teacher: TeacherConfig,
}

/// The three phases of QKD (Kim et al., arXiv 1911.12491), by epochs: first the student
/// learns from labels alone, then both learn, each from labels and the other, and for the rest the
/// student learns from the teacher as it then is. Losses are those of [`Distillation`]; that of the
/// teacher in the second phase is `(1 - w) objective(teacher, labels) + w T^2 KL(softmax(scores / T)
/// || softmax(teacher / T))`.
///
/// A teacher that learns, too, is in its training form there, and part of what training goes on from
/// (`training.bpk` of a checkpoint), never of its model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Epochs of self-studying.
    pub self_studying: usize,
    /// Epochs of co-studying after them; tutoring is the rest.
    pub co_studying: usize,
}

/// What an epoch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    SelfStudying,
    CoStudying,
    Tutoring,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_true(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// The temperature unless told.
pub(super) const TEMPERATURE: f64 = 5.0;

/// The weight unless told.
pub(super) const WEIGHT: f64 = 0.05;

impl Distillation {
    /// Whether every field is in its range, of a run of so many epochs.
    pub fn check(&self, epochs: usize) -> Result<(), Error> {
        let refused = |field: &str, value: f64, expected: &str| {
            let message = format!("is {value}, expected {expected}");
            Err(Error::config(field, message))
        };
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return refused("temperature", self.temperature, "a positive number");
        }
        if !(0.0..=1.0).contains(&self.weight) {
            return refused("distill_weight", self.weight, "0 to 1");
        }
        if !self.labels && self.weight != 1.0 {
            let message = format!("is {}, expected 1 without labels", self.weight);
            return Err(Error::config("distill_weight", message));
        }
        for (field, weight) in [
            ("feature_weight", self.feature_weight),
            ("attention_weight", self.attention_weight),
        ] {
            if !(weight.is_finite() && weight >= 0.0) {
                return refused(field, weight, "a number from 0 on");
            }
        }
        let phases = self.phases.unwrap_or_default();
        let before = phases.self_studying.saturating_add(phases.co_studying);
        if before > epochs {
            let message =
                format!("takes {before} epochs with self_study, expected {epochs} at most");
            return Err(Error::config("co_study", message));
        }
        Ok(())
    }

    /// What an epoch is for, counted from 0.
    fn phase(&self, epoch: usize) -> Phase {
        let phases = self.phases.unwrap_or_default();
        match epoch.checked_sub(phases.self_studying) {
            None => Phase::SelfStudying,
            Some(after) if after < phases.co_studying => Phase::CoStudying,
            Some(_) => Phase::Tutoring,
        }
    }

    /// Whether the teacher learns in some epoch.
    fn trains_teacher(&self) -> bool {
        self.phases.is_some_and(|phases| phases.co_studying > 0)
    }

    /// Whether what stages hand on takes part.
    pub(super) fn reads_stages(&self) -> bool {
        self.feature_weight > 0.0 || self.attention_weight > 0.0
    }
}

/// Options that say how a teacher is learned from, and nothing without one.
const OPTIONS: [&str; 12] = [
    "teacher_model",
    "teacher_method",
    "teacher_wbits",
    "teacher_abits",
    "temperature",
    "distill_weight",
    "labels",
    "feature_weight",
    "attention_weight",
    "start_from_teacher",
    "self_study",
    "co_study",
];

impl Settings {
    /// What they say of a teacher.
    ///
    /// # Errors
    /// If they say how to learn from one, but none is given; if it cannot be read; or a number is
    /// out of its range.
    pub(super) fn distillation(&self) -> Result<Option<Distillation>, Error> {
        if self.teacher.is_none() {
            return match self.first(|option| OPTIONS.contains(&option.name)) {
                None => Ok(None),
                Some(field) => {
                    let message = "there is nobody to learn from, expected teacher, too";
                    Err(Error::config(field, message))
                }
            };
        }
        Ok(Some(self.distillation_of(TeacherConfig::of(self)?)?))
    }

    /// What they say of learning from that teacher.
    ///
    /// # Errors
    /// If a number is out of its range.
    pub(super) fn distillation_of(&self, teacher: TeacherConfig) -> Result<Distillation, Error> {
        let labels = self.labels.unwrap_or(true);
        let usual = if labels { WEIGHT } else { 1.0 };
        let phases = Phases {
            self_studying: self.self_study.unwrap_or(0),
            co_studying: self.co_study.unwrap_or(0),
        };
        let distillation = Distillation {
            temperature: self.temperature.unwrap_or(TEMPERATURE),
            weight: self.distill_weight.unwrap_or(usual),
            labels,
            feature_weight: self.feature_weight.unwrap_or(0.0),
            attention_weight: self.attention_weight.unwrap_or(0.0),
            phases: (phases != Phases::default()).then_some(phases),
            teacher,
        };
        distillation.check(usize::MAX)?;
        Ok(distillation)
    }
}
