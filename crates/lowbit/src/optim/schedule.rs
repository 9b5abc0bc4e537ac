//! Learning rates over the steps of a run.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::power;

/// The learning rate as a function of the step, relative to the run's rate. Having no state, it
/// needs no place in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// `factor^k` after `k` of the milestones.
    Step {
        /// Fractions of the run, each from 0 to 1.
        milestones: Vec<f64>,
        /// What the rate is multiplied with at each.
        factor: f64,
    },
    /// A rate for each stage: the first until the first milestone, then the next.
    Stages {
        /// Fractions of the run, each from 0 to 1, in order.
        milestones: Vec<f64>,
        /// The rates, one more than milestones.
        factors: Vec<f64>,
    },
    /// `factor^k` after `k` times `steps` steps.
    Exponential {
        /// What the rate is multiplied with.
        factor: f64,
        /// Steps from one time to the next, at least 1.
        steps: usize,
    },
    /// `(1 + cos(pi t)) / 2` at the fraction `t` of the run (Loshchilov, Hutter, arXiv 1608.03983,
    /// equation 5 with one period).
    Cosine,
    /// Cosine from 1/25 to 1 over the first `warmup` of the run, then cosine from 1 to 1e-5
    /// (Smith, Topin, arXiv 1708.07120; shape and constants as is usual).
    OneCycle {
        /// The rising fraction of the run, above 0 and below 1.
        warmup: f64,
    },
    /// 1 in the first half of the run, then linear down to 0.01 at nine tenths of it, then 0.01:
    /// the schedule of SWA (arXiv 1803.05407), SWALP (arXiv 1904.11943) and QPyTorch's examples.
    Ramp,
}

impl Schedule {
    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |field, value: f64, expected| {
            Err(Error::config(
                field,
                format!("is {value}, expected {expected}"),
            ))
        };
        match self {
            Self::Step { factor, .. } if !(factor.is_finite() && *factor > 0.0) => {
                refused("factor", *factor, "a positive number")
            }
            Self::Step { milestones, .. } => {
                match milestones.iter().find(|m| !(0.0..=1.0).contains(*m)) {
                    Some(&milestone) => refused("milestones", milestone, "0 to 1"),
                    None => Ok(()),
                }
            }
            Self::Stages {
                milestones,
                factors,
            } => check_stages(milestones, factors),
            Self::Exponential { factor, .. } if !(factor.is_finite() && *factor > 0.0) => {
                refused("factor", *factor, "a positive number")
            }
            Self::Exponential { steps: 0, .. } => refused("steps", 0.0, "at least 1"),
            Self::OneCycle { warmup } if !(*warmup > 0.0 && *warmup < 1.0) => {
                refused("warmup", *warmup, "a number between 0 and 1")
            }
            _ => Ok(()),
        }
    }

    /// The factor of the learning rate in step `step` of `total`, counted from 0.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let t = step as f64 / total.max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Step { milestones, factor } => {
                power(*factor, milestones.iter().filter(|&&m| t >= m).count())
            }
            Self::Stages {
                milestones,
                factors,
            } => factors[milestones.iter().filter(|&&m| t >= m).count()],
            Self::Exponential { factor, steps } => power(*factor, step / steps),
            Self::Cosine => cosine(1.0, 0.0, t),
            Self::OneCycle { warmup } if t < *warmup => cosine(1.0 / 25.0, 1.0, t / warmup),
            Self::OneCycle { warmup } => cosine(1.0, 1e-5, (t - warmup) / (1.0 - warmup)),
            Self::Ramp => 1.0 - (1.0 - 0.01) * ((t - 0.5) / 0.4).clamp(0.0, 1.0),
        }
    }
}

fn check_stages(milestones: &[f64], factors: &[f64]) -> Result<(), Error> {
    let (ends, rates) = (milestones.len(), factors.len());
    if rates != ends + 1 {
        let message = format!("are {rates}, expected one more than the {ends} milestones");
        return Err(Error::config("factors", message));
    }
    if !(milestones.is_sorted() && milestones.iter().all(|m| (0.0..=1.0).contains(m))) {
        let message = "are not fractions from 0 to 1 in order";
        return Err(Error::config("milestones", message));
    }
    match factors
        .iter()
        .find(|rate| !(rate.is_finite() && **rate >= 0.0))
    {
        Some(rate) => {
            let message = format!("has {rate}, expected numbers from 0 on");
            Err(Error::config("factors", message))
        }
        None => Ok(()),
    }
}

/// Half a cosine from `from` at `t = 0` to `to` at `t = 1`.
fn cosine(from: f64, to: f64, t: f64) -> f64 {
    to + (from - to) * (1.0 + (std::f64::consts::PI * t).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn stages_have_a_rate_each() {
        let stages = |milestones: &[f64], factors: &[f64]| Schedule::Stages {
            milestones: milestones.into(),
            factors: factors.into(),
        };
        let schedule = stages(&[0.5, 0.75], &[1.0, 0.12, 0.06]);
        schedule.check().unwrap();
        let factors = [0, 49, 50, 74, 75, 99].map(|step| schedule.factor(step, 100));
        assert_eq!(factors, [1.0, 1.0, 0.12, 0.12, 0.06, 0.06]);
        let refused = |milestones: &[f64], factors: &[f64]| {
            let error = stages(milestones, factors).check().unwrap_err();
            error.to_string()
        };
        assert_eq!(
            refused(&[0.5], &[1.0]),
            "factors: are 1, expected one more than the 1 milestones"
        );
        assert!(refused(&[0.5, 0.2], &[1.0; 3]).contains("in order"));
        assert!(refused(&[0.5], &[1.0, -1.0]).contains("from 0 on"));
    }

    #[test]
    fn a_step_schedule_drops_at_its_milestones() {
        let schedule = Schedule::Step {
            milestones: vec![0.5, 0.75],
            factor: 0.1,
        };
        assert_close(schedule.factor(49, 100), 1.0);
        assert_close(schedule.factor(50, 100), 0.1);
        assert_close(schedule.factor(75, 100), 0.01);
    }

    #[test]
    fn an_exponential_schedule_halves_again_and_again() {
        let schedule = Schedule::Exponential {
            factor: 0.5,
            steps: 375,
        };
        assert_close(schedule.factor(374, 10), 1.0);
        assert_close(schedule.factor(375, 10), 0.5);
        assert_close(schedule.factor(1125, 10), 0.125);
    }

    #[test]
    fn a_cosine_passes_through_its_known_points() {
        // cos(0) = 1, cos(pi/3) = 1/2, cos(pi/2) = 0.
        assert_close(Schedule::Cosine.factor(0, 300), 1.0);
        assert_close(Schedule::Cosine.factor(100, 300), 0.75);
        assert_close(Schedule::Cosine.factor(150, 300), 0.5);
    }

    /// At 0.6 and 0.7 of the run a quarter and a half of the way from 1 to 0.01 are done.
    #[test]
    fn a_ramp_is_flat_falls_and_is_flat_again() {
        for (step, factor) in [
            (0, 1.0),
            (50, 1.0),
            (60, 0.7525),
            (70, 0.505),
            (90, 0.01),
            (99, 0.01),
        ] {
            assert_close(Schedule::Ramp.factor(step, 100), factor);
        }
        let read: Schedule = toml::from_str("name = \"ramp\"").unwrap();
        assert_eq!(read, Schedule::Ramp);
    }

    #[test]
    fn one_cycle_rises_and_falls() {
        let schedule = Schedule::OneCycle { warmup: 0.25 };
        assert_close(schedule.factor(0, 400), 0.04);
        assert_close(schedule.factor(50, 400), 0.52);
        assert_close(schedule.factor(100, 400), 1.0);
        assert_close(schedule.factor(400, 400), 1e-5);
    }
}
