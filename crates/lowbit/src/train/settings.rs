//! What a person says of an experiment, in flags or in a file: only what differs from the usual.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::evaluation::find_run;
use super::experiment::CALIBRATION_IMAGES;
use super::{Experiment, Recipe, RunConfig, Start};
use crate::Error;
use crate::config::{Fold, QPlan, TqtPlan};
use crate::data::DataSet;
use crate::models::{Architecture, Tolerance};
use crate::optim::{OptimizerConfig, Schedule};
use crate::quantizers::{DorefaConfig, TrainedThresholdConfig};

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Method {
    /// Nothing quantized.
    Float,
    /// DoReFa-Net (arXiv 1606.06160).
    Dorefa,
    /// Trained quantization thresholds (arXiv 1903.08066).
    Tqt,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Float, Self::Dorefa, Self::Tqt];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Dorefa => "dorefa",
            Self::Tqt => "tqt",
        }
    }

    /// What the method quantizes with the given widths.
    pub fn plan(self, weight_bits: u32, activation_bits: u32) -> QPlan {
        match self {
            Self::Float => QPlan::float(),
            Self::Dorefa => QPlan::dorefa(weight_bits, activation_bits),
            Self::Tqt => TqtPlan::new(weight_bits, activation_bits)
                .all_tensors()
                .plan(),
        }
    }

    /// The width that the method uses unless told: 4 bits, 8 for trained thresholds.
    pub fn usual_bits(self) -> u32 {
        match self {
            Self::Float => 32,
            Self::Dorefa => 4,
            Self::Tqt => 8,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| Error::Unknown {
                kind: "method",
                text: text.into(),
                expected: "float, dorefa or tqt",
            })
    }
}

impl TryFrom<String> for Method {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.name().into()
    }
}

/// The part of an [`Experiment`] that is given; the rest is as usual for the data set and the
/// method.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The data set; the embedded digits unless given.
    pub data: Option<DataSet>,
    /// The folder with its files.
    pub data_dir: Option<PathBuf>,
    /// The network; the usual one for the data set unless given.
    pub model: Option<Architecture>,
    /// How it is trained; DoReFa-Net unless given.
    pub method: Option<Method>,
    /// Whether a float network is trained first, for comparison; it is unless `from` is given.
    pub baseline: Option<bool>,
    /// Bits of weights.
    pub wbits: Option<u32>,
    /// Bits of activations.
    pub abits: Option<u32>,
    /// Times that each run sees every image.
    pub epochs: Option<usize>,
    /// Images in a step.
    pub batch: Option<usize>,
    /// Highest learning rate of the weights.
    pub lr: Option<f64>,
    /// Highest learning rate of trained thresholds.
    pub threshold_lr: Option<f64>,
    /// The optimizer.
    pub optimizer: Option<OptimizerConfig>,
    /// The learning rate over the run.
    pub schedule: Option<Schedule>,
    /// Whether training images are cropped and flipped at random.
    pub augment: Option<bool>,
    /// Where all randomness comes from.
    pub seed: Option<u64>,
    /// Threads.
    pub threads: Option<usize>,
    /// Training images that thresholds are calibrated with.
    pub calibration_images: Option<usize>,
    /// What is done beside descending.
    pub recipe: Option<Recipe>,
    /// The folder of an earlier run whose best weights this one starts from, or a file with the
    /// weights of the plain network.
    pub from: Option<PathBuf>,
    /// What of a difference between `from` and the network is accepted; nothing unless given.
    pub accept: Option<Tolerance>,
    /// Whether convolutions are quantized as one with the normalizations after them; they are not
    /// unless given, or unless the run that this one starts from did so.
    pub fold: Option<Fold>,
    /// What is quantized, in place of what the method would.
    pub plan: Option<QPlan>,
}

/// What a configuration file holds: settings, or the complete experiment that a run wrote.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigFile {
    /// Settings.
    Settings(Box<Settings>),
    /// A complete experiment.
    Experiment(Box<Experiment>),
}

impl ConfigFile {
    /// Reads a file. One with a list of `runs` is a complete experiment.
    ///
    /// # Errors
    /// If it cannot be read, or is not such a file, with the line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let source = path.display().to_string();
        let table: toml::Table =
            toml::from_str(&text).map_err(|error| Error::toml(&source, &text, &error))?;
        if table.contains_key("runs") {
            return Ok(Self::Experiment(Box::new(Experiment::from_toml(
                path, &text,
            )?)));
        }
        let settings =
            toml::from_str(&text).map_err(|error| Error::toml(&source, &text, &error))?;
        Ok(Self::Settings(Box::new(settings)))
    }
}

/// What is usual for a data set.
struct Usual {
    model: Architecture,
    epochs: usize,
    batch: usize,
    lr: f64,
    optimizer: OptimizerConfig,
    schedule: Schedule,
}

impl Usual {
    fn of(data: DataSet) -> Self {
        let one_cycle = Schedule::OneCycle { warmup: 0.2 };
        match data {
            DataSet::Digits => Self {
                model: Architecture::Cnn,
                epochs: 20,
                batch: 32,
                lr: 1e-2,
                optimizer: OptimizerConfig::AdamW { weight_decay: 1e-2 },
                schedule: one_cycle,
            },
            DataSet::Mnist => Self {
                model: Architecture::LeNet,
                epochs: 5,
                batch: 64,
                lr: 2e-3,
                optimizer: OptimizerConfig::AdamW { weight_decay: 1e-2 },
                schedule: one_cycle,
            },
            DataSet::Cifar10 | DataSet::Cifar100 => Self {
                model: Architecture::ResNet {
                    blocks: 3,
                    bottleneck: false,
                },
                epochs: 100,
                batch: 128,
                lr: 0.1,
                optimizer: OptimizerConfig::Sgd {
                    momentum: 0.9,
                    weight_decay: 1e-4,
                },
                schedule: Schedule::Cosine,
            },
        }
    }
}

impl Settings {
    /// These settings where they say something, `other` where they do not.
    pub fn or(self, other: Self) -> Self {
        Self {
            data: self.data.or(other.data),
            data_dir: self.data_dir.or(other.data_dir),
            model: self.model.or(other.model),
            method: self.method.or(other.method),
            baseline: self.baseline.or(other.baseline),
            wbits: self.wbits.or(other.wbits),
            abits: self.abits.or(other.abits),
            epochs: self.epochs.or(other.epochs),
            batch: self.batch.or(other.batch),
            lr: self.lr.or(other.lr),
            threshold_lr: self.threshold_lr.or(other.threshold_lr),
            optimizer: self.optimizer.or(other.optimizer),
            schedule: self.schedule.or(other.schedule),
            augment: self.augment.or(other.augment),
            seed: self.seed.or(other.seed),
            threads: self.threads.or(other.threads),
            calibration_images: self.calibration_images.or(other.calibration_images),
            recipe: self.recipe.or(other.recipe),
            from: self.from.or(other.from),
            accept: self.accept.or(other.accept),
            fold: self.fold.or(other.fold),
            plan: self.plan.or(other.plan),
        }
    }

    /// The complete experiment.
    ///
    /// Where it starts from an earlier run, data set and network are that run's unless given; and
    /// where that run has trained thresholds, TQT retrains its plan, or with other widths a plan of
    /// its own that folds normalizations as that run did.
    ///
    /// # Errors
    /// If a field is out of its range.
    pub fn complete(mut self) -> Result<Experiment, Error> {
        let source = self.from.as_deref().and_then(|from| find_run(from).ok());
        if let Some((_, name, experiment)) = source {
            let plan = experiment.runs.iter().find(|run| run.name == name);
            let plan = plan.map(|run| run.plan.clone());
            if self.method == Some(Method::Tqt)
                && self.plan.is_none()
                && let Some(plan) = plan.filter(QPlan::has_thresholds)
            {
                let fold = self.fold.unwrap_or(plan.fold);
                if self.wbits.or(self.abits).is_some() {
                    self.fold = Some(fold);
                } else {
                    (self.method, self.fold) = (None, None);
                    self.plan = Some(QPlan {
                        fold,
                        ..plan.retrained()
                    });
                }
            }
            self = self.or(Self {
                data: Some(experiment.data),
                data_dir: experiment.data_dir,
                model: Some(experiment.model),
                ..Self::default()
            });
        }
        let data = self.data.unwrap_or(DataSet::Digits);
        let usual = Usual::of(data);
        if self.plan.is_some() {
            let method = self.method.map(|_| "method");
            let width = self.wbits.map(|_| "wbits").or(self.abits.map(|_| "abits"));
            let fold = self.fold.map(|_| "fold");
            if let Some(field) = method.or(width).or(fold) {
                return Err(Error::config(
                    field,
                    "a plan is given, which says what is quantized",
                ));
            }
        }
        let runs = self.runs(&usual)?;
        let absolute = |path: Option<PathBuf>| {
            path.map(|path| std::path::absolute(&path).map_err(Error::io(&path)))
                .transpose()
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let experiment = Experiment {
            data,
            data_dir: absolute(self.data_dir)?,
            model: self.model.unwrap_or(usual.model),
            batch: self.batch.unwrap_or(usual.batch),
            augment: self.augment.unwrap_or(data.augment().is_some()),
            seed: self.seed.unwrap_or(0),
            threads: self.threads.unwrap_or(cores),
            calibration_images: self.calibration_images.unwrap_or(CALIBRATION_IMAGES),
            from: absolute(self.from)?,
            accept: self.accept.unwrap_or_default(),
            runs,
        };
        experiment.check()?;
        Ok(experiment)
    }

    fn runs(&self, usual: &Usual) -> Result<Vec<RunConfig>, Error> {
        let (name, plan) = match &self.plan {
            Some(plan) => ("plan".into(), plan.clone()),
            None => self.method_plan()?,
        };
        let quantized = plan != QPlan::float();
        let baseline = self.baseline.unwrap_or(self.from.is_none()) || !quantized;
        let start = if self.from.is_some() {
            Start::From
        } else {
            Start::Scratch
        };
        let mut runs = Vec::new();
        if baseline {
            runs.push(self.run("float".into(), QPlan::float(), start, usual));
        }
        if quantized {
            // Thresholds are calibrated on a trained network.
            let after = baseline && start == Start::Scratch && plan.has_thresholds();
            let start = if after { Start::First } else { start };
            runs.push(self.run(name, plan, start, usual));
        }
        Ok(runs)
    }

    /// The name and the plan of the method, with the widths that were given.
    fn method_plan(&self) -> Result<(String, QPlan), Error> {
        let method = self.method.unwrap_or(Method::Dorefa);
        let width = |field: &str, given: Option<u32>, range: &RangeInclusive<u32>| match given {
            None => Ok(method.usual_bits()),
            Some(32) => Ok(32),
            Some(bits) if range.contains(&bits) => Ok(bits),
            Some(bits) => {
                let (first, last) = (range.start(), range.end());
                let message =
                    format!("is {bits}, {method} takes {first} to {last}, or 32 for float");
                Err(Error::config(field, message))
            }
        };
        let (weights, activations) = match method {
            Method::Float => {
                for (field, given) in [("wbits", self.wbits), ("abits", self.abits)] {
                    if given.is_some_and(|bits| bits != 32) {
                        return Err(Error::config(
                            field,
                            "the method is float, which has no widths",
                        ));
                    }
                }
                if self.fold.is_some_and(|fold| !fold.is_off()) {
                    let message = "the method is float, which quantizes nothing";
                    return Err(Error::config("fold", message));
                }
                return Ok((method.to_string(), QPlan::float()));
            }
            Method::Dorefa => (DorefaConfig::WEIGHT_BITS, DorefaConfig::ACTIVATION_BITS),
            Method::Tqt => (TrainedThresholdConfig::BITS, TrainedThresholdConfig::BITS),
        };
        let wbits = width("wbits", self.wbits, &weights)?;
        let abits = width("abits", self.abits, &activations)?;
        Ok((
            format!("{method}-w{wbits}a{abits}"),
            QPlan {
                fold: self.fold.unwrap_or_default(),
                ..method.plan(wbits, abits)
            },
        ))
    }

    fn run(&self, name: String, plan: QPlan, start: Start, usual: &Usual) -> RunConfig {
        // A trained network is retrained gently: a fifth of the epochs and a tenth of the rate.
        let (epochs, lr) = match start {
            Start::Scratch => (usual.epochs, usual.lr),
            Start::From | Start::First => (usual.epochs.div_ceil(5), usual.lr / 10.0),
        };
        RunConfig {
            name,
            start,
            epochs: self.epochs.unwrap_or(epochs),
            lr: self.lr.unwrap_or(lr),
            threshold_lr: self.threshold_lr.unwrap_or(1e-2),
            optimizer: self
                .optimizer
                .clone()
                .unwrap_or_else(|| usual.optimizer.clone()),
            schedule: self
                .schedule
                .clone()
                .unwrap_or_else(|| usual.schedule.clone()),
            recipe: match &self.recipe {
                Some(recipe) => recipe.clone(),
                None if plan.has_thresholds() => Recipe::tqt(self.batch.unwrap_or(usual.batch)),
                None => Recipe::default(),
            },
            plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_the_digits_in_float_and_in_four_bits() {
        let experiment = Settings::default().complete().unwrap();
        assert_eq!(experiment.data, DataSet::Digits);
        let names: Vec<&str> = experiment
            .runs
            .iter()
            .map(|run| run.name.as_str())
            .collect();
        assert_eq!(names, ["float", "dorefa-w4a4"]);
    }

    #[test]
    fn thresholds_start_from_the_float_run_and_from_a_given_one_alone() {
        let tqt = Settings {
            method: Some(Method::Tqt),
            ..Settings::default()
        };
        let runs = tqt.clone().complete().unwrap().runs;
        assert_eq!(
            (runs[1].name.as_str(), runs[1].start),
            ("tqt-w8a8", Start::First)
        );
        let from = Settings {
            from: Some("runs/a".into()),
            ..tqt
        };
        let runs = from.complete().unwrap().runs;
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].start, Start::From);
    }

    #[test]
    fn a_complete_experiment_survives_toml() {
        let experiment = Settings {
            method: Some(Method::Tqt),
            ..Settings::default()
        };
        let experiment = experiment.complete().unwrap();
        let text = experiment.to_toml().unwrap();
        assert_eq!(
            Experiment::from_toml(Path::new("x"), &text).unwrap(),
            experiment
        );
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let refused = |settings: Settings| settings.complete().unwrap_err().to_string();
        let zero = Settings {
            batch: Some(0),
            ..Settings::default()
        };
        assert_eq!(refused(zero), "batch: is 0, expected at least 1");
        let wide = Settings {
            wbits: Some(33),
            ..Settings::default()
        };
        assert_eq!(
            refused(wide),
            "wbits: is 33, dorefa takes 1 to 24, or 32 for float"
        );
        let lr = Settings {
            lr: Some(f64::NAN),
            ..Settings::default()
        };
        assert_eq!(
            refused(lr),
            "runs[0].lr: is NaN, expected a positive number"
        );
    }
}
