//! What is to be trained: complete, so that a file of it repeats the numbers.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::averaging::Averaging;
use super::bit_budget::BitBudget;
use super::defaults;
use super::distillation::Distillation;
use super::loss_scale::LossScale;
use super::objective::Objective;
use super::options::{Decides, Settings};
use super::recipe::Recipe;
use super::regularization::Regularization;
use crate::Error;
use crate::config::{Fold, Method, QPlan};
use crate::data::{DataSet, Defaults, HoldOut, ImageFolder, Parts, Progress, Split, folder, text};
use crate::models::{Architecture, Classifier, Network, Tolerance};
use crate::nn::Coding;
use crate::optim::{OptimizerConfig, OptimizerNumbers, Schedule};
use crate::repair::{Algorithm, check_algorithms};

/// More epochs than anybody waits for.
const MOST_EPOCHS: usize = 1_000_000;

/// One or more runs of a network on a data set. Written beside the results as `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The data set.
    pub data: DataSet,
    /// The folder with its files, or none for the cache folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// How the images of the data set `folder` are read.
    #[serde(default, skip_serializing_if = "ImageFolder::is_default")]
    pub images: ImageFolder,
    /// The network.
    pub model: Architecture,
    /// Steps of time, where the network spikes; its own number unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// What an image becomes over them; what the network takes unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coding: Option<Coding>,
    /// Images in a step.
    pub batch: usize,
    /// Whether training images are cropped and flipped at random, where the data set has that.
    pub augment: bool,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Threads. The numbers do not depend on it.
    pub threads: usize,
    /// Training images that thresholds are calibrated with.
    #[serde(default = "usual_calibration")]
    pub calibration_images: usize,
    /// Training images that are held out to choose the best checkpoint by, if any; otherwise the
    /// test images choose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_out: Option<HoldOut>,
    /// Where the runs that say so get their first weights: the folder of an earlier run, whose
    /// best weights are meant, or a file with the weights of the plain network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// What of a difference between `from` and the network is accepted.
    #[serde(default, skip_serializing_if = "Tolerance::is_none")]
    pub accept: Tolerance,
    /// The runs, in order.
    pub runs: Vec<RunConfig>,
}

fn usual_calibration() -> usize {
    defaults::CALIBRATION_IMAGES
}

/// Where a run's first weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Random weights, drawn from the seed.
    Scratch,
    /// The best weights of `from`.
    From,
    /// The best weights of the first run.
    First,
    /// Of the teacher's parameters and statistics those with the names and shapes of the student's;
    /// the others are drawn from the seed.
    Teacher,
}

/// One training of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Its name, which is also that of its folder.
    pub name: String,
    /// Where its first weights come from.
    pub start: Start,
    /// Times that it sees every image; 0 for a network that starts trained and is calibrated only.
    pub epochs: usize,
    /// Highest learning rate of the weights.
    pub lr: f64,
    /// Highest learning rate of trained thresholds.
    pub threshold_lr: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the run.
    pub schedule: Schedule,
    /// The loss.
    #[serde(default, skip_serializing_if = "Objective::is_default")]
    pub objective: Objective,
    /// The formats of what the optimizer reads, keeps and writes.
    #[serde(default, skip_serializing_if = "OptimizerNumbers::is_float")]
    pub numbers: OptimizerNumbers,
    /// What the loss is multiplied by, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// The largest norm that the gradients of a step may have together, where there is one: if it
    /// is larger, all are multiplied by `clip_norm / (norm + 1e-6)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Whether each step is checked to be made of integers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_integers: bool,
    /// Label smoothing, mixup and cutout.
    #[serde(default, skip_serializing_if = "Regularization::is_off")]
    pub regularization: Regularization,
    /// When and how weights are averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swa: Option<Averaging>,
    /// How many bits learned widths may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_budget: Option<BitBudget>,
    /// What is learned from a teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
    /// What is done beside descending.
    #[serde(default, skip_serializing_if = "Recipe::is_plain")]
    pub recipe: Recipe,
    /// What is done to the trained network that the run starts from, in this order: equalization before
    /// calibration, what rounds weights and corrects biases after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<Algorithm>,
    /// What is quantized.
    #[serde(default)]
    pub plan: QPlan,
}

impl Experiment {
    /// Reads a complete configuration.
    ///
    /// # Errors
    /// If the text is not one, with the line; or a field is out of its range.
    pub fn from_toml(source: &Path, text: &str) -> Result<Self, Error> {
        let source = source.display().to_string();
        let experiment: Self =
            toml::from_str(text).map_err(|error| Error::toml(&source, text, &error))?;
        experiment.check()?;
        Ok(experiment)
    }

    /// What `settings` say, and what is usual where they say nothing.
    ///
    /// # Errors
    /// If a field is out of its range, or they contradict themselves.
    pub(super) fn of(settings: Settings) -> Result<Self, Error> {
        let of_plan = |d: Decides| d == Decides::Quantization && settings.plan.is_some();
        if let Some(field) = settings.first(|option| of_plan(option.decides)) {
            let message = "a plan is given, which says what is quantized";
            return Err(Error::config(field, message));
        }
        let data = settings.data.unwrap_or(defaults::DATA);
        let usual = data.defaults();
        let runs = RunConfig::of(&settings, usual)?;
        let experiment = Self {
            data,
            images: settings.images(data, ImageFolder::default())?,
            data_dir: absolute(settings.data_dir)?,
            model: settings.model.unwrap_or(usual.model),
            steps: settings.steps,
            coding: settings.coding,
            batch: settings.batch.unwrap_or(usual.batch),
            augment: settings.augment.unwrap_or(data.augment().is_some()),
            seed: settings.seed.unwrap_or(defaults::SEED),
            threads: settings.threads.unwrap_or_else(defaults::threads),
            calibration_images: settings
                .calibration_images
                .unwrap_or(defaults::CALIBRATION_IMAGES),
            hold_out: settings.hold_out,
            from: absolute(settings.from)?,
            accept: settings.accept.unwrap_or_default(),
            runs,
        };
        experiment.check()?;
        Ok(experiment)
    }

    /// The same experiment with what `settings` says of it.
    ///
    /// # Errors
    /// If they speak of the choice of runs, which a complete experiment has made, or a field is
    /// out of its range.
    pub fn with(mut self, settings: &Settings) -> Result<Self, Error> {
        if let Some(field) = settings.first(|option| option.decides != Decides::Training) {
            let message = "the file lists complete runs, whose choice is made";
            return Err(Error::config(field, message));
        }
        let given = settings.clone();
        self.data = given.data.unwrap_or(self.data);
        self.data_dir = given.data_dir.or(self.data_dir);
        self.images = settings.images(self.data, self.images)?;
        self.model = given.model.unwrap_or(self.model);
        self.steps = given.steps.or(self.steps);
        self.coding = given.coding.or(self.coding);
        self.batch = given.batch.unwrap_or(self.batch);
        self.augment = given.augment.unwrap_or(self.augment);
        self.seed = given.seed.unwrap_or(self.seed);
        self.threads = given.threads.unwrap_or(self.threads);
        let images = given.calibration_images;
        self.calibration_images = images.unwrap_or(self.calibration_images);
        self.accept = given.accept.unwrap_or(self.accept);
        self.hold_out = given.hold_out.or(self.hold_out);
        for run in &mut self.runs {
            let given = settings.clone();
            run.epochs = given.epochs.unwrap_or(run.epochs);
            run.lr = given.lr.unwrap_or(run.lr);
            run.threshold_lr = given.threshold_lr.unwrap_or(run.threshold_lr);
            if let Some(optimizer) = given.optimizer {
                run.optimizer = optimizer;
            }
            if let Some(schedule) = given.schedule {
                run.schedule = schedule;
            }
            run.clip_norm = given.clip_norm.or(run.clip_norm);
            run.check_integers = given.check_integers.unwrap_or(run.check_integers);
            run.regularization = settings.regularization(run.regularization);
            run.swa = settings.averaging(run.swa.take(), run.lr)?;
            run.objective = given.objective.unwrap_or(run.objective);
            if let Some(recipe) = given.recipe {
                run.recipe = recipe;
            }
        }
        self.check()?;
        Ok(self)
    }

    /// Loads the data set, from `dir` where that is given, otherwise from where it says itself.
    ///
    /// # Errors
    /// As [`DataSet::load`].
    pub fn load(
        &self,
        dir: Option<&Path>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Split, Error> {
        let dir = dir.or(self.data_dir.as_deref());
        self.data.load_with(dir, &self.images, progress)
    }

    /// The network of a run, its parameters drawn from the experiment's seed.
    ///
    /// # Errors
    /// If the plan cannot be built on it.
    pub fn network(
        &self,
        run: &RunConfig,
        split: &Split,
        device: &Device,
    ) -> Result<Network, Error> {
        let set = &split.train;
        let input = [set.channels, set.height, set.width];
        self.network_for(run, (input, set.classes), device)
    }

    /// The same for images `[channels, height, width]` of so many classes.
    pub(crate) fn network_for(
        &self,
        run: &RunConfig,
        (input, classes): ([usize; 3], usize),
        device: &Device,
    ) -> Result<Network, Error> {
        let (plan, seed) = (&run.plan, self.seed);
        let mut network = self.model.init(input, classes, plan, seed, device)?;
        self.set_time(&mut network)?;
        Ok(network)
    }

    /// Tells a spiking network how it sees images over time.
    fn set_time(&self, network: &mut Network) -> Result<(), Error> {
        let given = match (self.steps, self.coding) {
            (None, None) => return Ok(()),
            (Some(_), _) => "steps",
            (None, Some(_)) => "coding",
        };
        let Some(time) = network.time_mut() else {
            let message = format!("is for spiking networks, and {} is none", self.model);
            return Err(Error::config(given, message));
        };
        time.steps = self.steps.unwrap_or(time.steps);
        time.coding = self.coding.unwrap_or(time.coding);
        Ok(())
    }

    /// The training images that are trained on and those that are held out, if any are.
    pub(super) fn parts(&self, split: &Split) -> Option<Parts> {
        let hold_out = self.hold_out?;
        Some(hold_out.parts(&split.train, self.seed))
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    /// If a path is not Unicode, which TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| Error::config("config", error.to_string()))
    }

    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        if self.batch == 0 {
            return Err(Error::config("batch", "is 0, expected at least 1"));
        }
        if self.steps == Some(0) {
            return Err(Error::config("steps", "is 0, expected at least 1"));
        }
        if self.calibration_images == 0 {
            return Err(Error::config(
                "calibration_images",
                "is 0, expected at least 1",
            ));
        }
        if let Some(hold_out) = self.hold_out {
            hold_out.check()?;
        }
        if self.threads == 0 {
            return Err(Error::config("threads", "is 0, expected at least 1"));
        }
        if i64::try_from(self.seed).is_err() {
            return Err(Error::config(
                "seed",
                format!("is {}, expected less than 2^63", self.seed),
            ));
        }
        self.check_data()?;
        if self.runs.is_empty() {
            return Err(Error::config("runs", "is empty, expected at least one run"));
        }
        for (i, run) in self.runs.iter().enumerate() {
            run.check(i, self.from.is_some())
                .and_then(|()| run.check_kind(self.data))
                .map_err(|e| e.within(&format!("runs[{i}]")))?;
            if self.runs[..i]
                .iter()
                .any(|earlier| earlier.name == run.name)
            {
                return Err(Error::config(
                    format!("runs[{i}].name"),
                    format!("`{}` names two runs", run.name),
                ));
            }
        }
        Ok(())
    }

    /// Whether the data set is where it says, and of the network's kind.
    fn check_data(&self) -> Result<(), Error> {
        if self.data.is_embedded() && self.data_dir.is_some() {
            return Err(Error::config(
                "data_dir",
                format!(
                    "is given, and {} is part of the program, not in a folder",
                    self.data
                ),
            ));
        }
        if self.data == DataSet::Folder && self.data_dir.is_none() {
            return Err(folder::no_folder());
        }
        if self.data == DataSet::Text && self.data_dir.is_none() {
            return Err(text::no_files());
        }
        if self.data.is_text() != self.model.reads_text() {
            return Err(self.of_another_kind());
        }
        self.images.check().map_err(|e| e.within("images"))
    }

    /// The error of a network of images on text, or the other way round.
    fn of_another_kind(&self) -> Error {
        let (model, data) = (self.model, self.data);
        let message = match data.is_text() {
            true => format!(
                "{model} sees images, and {data} is text; expected gpt-nano, gpt-micro or gpt-mini"
            ),
            false => format!("{model} reads text, and {data} are images"),
        };
        Error::config("model", message)
    }
}

fn absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>, Error> {
    path.map(|path| std::path::absolute(&path).map_err(Error::io(&path)))
        .transpose()
}

impl RunConfig {
    /// The runs that `settings` ask for.
    fn of(settings: &Settings, usual: &Defaults) -> Result<Vec<Self>, Error> {
        let (name, plan) = match &settings.plan {
            Some(plan) => ("plan".into(), plan.clone()),
            None => settings.method_plan()?,
        };
        let numbers = settings.numbers();
        let scaled = settings.loss_scale.is_some();
        let quantized = plan != QPlan::float() || !numbers.is_float() || scaled;
        if plan == QPlan::float() && settings.algorithms.is_some() {
            let message = "are for a quantized network, and nothing is quantized";
            return Err(Error::config("algorithms", message));
        }
        if settings.bit_budget.is_some() && !plan.learns_widths() {
            let message = "nothing learns a width, expected the method learned-width";
            return Err(Error::config("bit_budget", message));
        }
        if let Some(distillation) = settings.distillation()? {
            let name = match (plan == QPlan::float(), quantized) {
                (true, true) => "low-precision".into(),
                (true, false) => Method::FLOAT.name().into(),
                (false, _) => name,
            };
            let student = Self {
                numbers,
                loss_scale: settings.loss_scale,
                ..Self::one(settings, usual, name, plan, Start::Scratch)?
            };
            return student.with_teacher(settings, usual, distillation);
        }
        let baseline = settings.baseline.unwrap_or(settings.from.is_none()) || !quantized;
        let start = if settings.from.is_some() {
            Start::From
        } else {
            Start::Scratch
        };
        let mut runs = Vec::new();
        if baseline {
            let name = "float".into();
            runs.push(Self::one(settings, usual, name, QPlan::float(), start)?);
        }
        if quantized {
            // What is calibrated is calibrated on a trained network.
            let after = baseline && start == Start::Scratch && plan.needs_calibration();
            let start = if after { Start::First } else { start };
            let name = match plan == QPlan::float() {
                true => "low-precision".into(),
                false => name,
            };
            runs.push(Self {
                numbers,
                loss_scale: settings.loss_scale,
                ..Self::one(settings, usual, name, plan, start)?
            });
        }
        Ok(runs)
    }

    /// The runs of a student that learns alone, unless there is to be no baseline, and from a teacher.
    fn with_teacher(
        self,
        settings: &Settings,
        usual: &Defaults,
        distillation: Distillation,
    ) -> Result<Vec<Self>, Error> {
        let baseline = settings.baseline.unwrap_or(true);
        let from_teacher = settings.start_from_teacher.unwrap_or(false);
        let mut runs = Vec::new();
        // What is calibrated is calibrated on a trained network.
        let calibrated = self.plan.needs_calibration() && settings.from.is_none();
        if baseline && calibrated {
            let (name, plan) = ("float".into(), QPlan::float());
            runs.push(Self::one(settings, usual, name, plan, Start::Scratch)?);
        }
        let alone = match (settings.from.is_some(), calibrated && baseline) {
            (true, _) => Start::From,
            (false, true) => Start::First,
            (false, false) => Start::Scratch,
        };
        let of = |start, name: &str| -> Result<Self, Error> {
            let name = name.into();
            Ok(Self {
                numbers: self.numbers.clone(),
                loss_scale: self.loss_scale,
                ..Self::one(settings, usual, name, self.plan.clone(), start)?
            })
        };
        if baseline {
            runs.push(of(alone, &self.name)?);
        }
        let start = if from_teacher { Start::Teacher } else { alone };
        runs.push(Self {
            distillation: Some(distillation),
            ..of(start, &format!("{}-distilled", self.name))?
        });
        Ok(runs)
    }

    fn one(
        settings: &Settings,
        usual: &Defaults,
        name: String,
        plan: QPlan,
        start: Start,
    ) -> Result<Self, Error> {
        // A trained network is retrained gently: a fifth of the epochs and a tenth of the rate.
        let (epochs, lr) = match start {
            Start::Scratch | Start::Teacher => (usual.epochs, usual.lr),
            Start::From | Start::First => (usual.epochs.div_ceil(5), usual.lr / 10.0),
        };
        let given = settings.clone();
        let recipe = || match plan.has_thresholds() {
            true => Recipe::tqt(settings.batch.unwrap_or(usual.batch)),
            false => Recipe::default(),
        };
        let lr = given.lr.unwrap_or(lr);
        let algorithms = given.algorithms.unwrap_or_default();
        Ok(Self {
            name,
            start,
            epochs: given.epochs.unwrap_or(epochs),
            lr,
            threshold_lr: given.threshold_lr.unwrap_or(defaults::THRESHOLD_LR),
            optimizer: given.optimizer.unwrap_or_else(|| usual.optimizer.clone()),
            schedule: given.schedule.unwrap_or_else(|| usual.schedule.clone()),
            objective: given.objective.unwrap_or_default(),
            numbers: OptimizerNumbers::default(),
            loss_scale: None,
            clip_norm: given.clip_norm,
            check_integers: given.check_integers.unwrap_or(false),
            regularization: settings.regularization(Regularization::default()),
            swa: settings.averaging(None, lr)?,
            bit_budget: given.bit_budget.filter(|_| plan.learns_widths()),
            distillation: None,
            recipe: given.recipe.unwrap_or_else(recipe),
            algorithms: match plan == QPlan::float() {
                true => Vec::new(),
                false => algorithms,
            },
            plan,
        })
    }

    fn check(&self, index: usize, has_from: bool) -> Result<(), Error> {
        let simple = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(simple) {
            let message = format!(
                "`{}` cannot name a folder, expected letters, digits, - _ .",
                self.name
            );
            return Err(Error::config("name", message));
        }
        if self.name == "checkpoints" {
            return Err(Error::config(
                "name",
                "`checkpoints` is the name of a folder inside a run",
            ));
        }
        let trains = self.start == Start::Scratch || self.distillation.is_some();
        let least = usize::from(trains);
        if !(least..=MOST_EPOCHS).contains(&self.epochs) {
            let message = format!("is {}, expected {least} to {MOST_EPOCHS}", self.epochs);
            return Err(Error::config("epochs", message));
        }
        self.recipe.check().map_err(|e| e.within("recipe"))?;
        self.optimizer.check().map_err(|e| e.within("optimizer"))?;
        self.numbers.check().map_err(|e| e.within("numbers"))?;
        if self.optimizer.own_numbers().is_some() && !self.numbers.is_float() {
            let message = "the optimizer rounds its numbers itself, expected none here";
            return Err(Error::config("numbers", message));
        }
        self.loss_scale.map_or(Ok(()), |scale| scale.check())?;
        self.schedule.check().map_err(|e| e.within("schedule"))?;
        self.regularization
            .check()
            .map_err(|e| e.within("regularization"))?;
        if let Some(budget) = &self.bit_budget {
            budget.check().map_err(|e| e.within("bit_budget"))?;
            if !self.plan.learns_widths() {
                let message = "the plan learns no widths, expected learned-width";
                return Err(Error::config("bit_budget", message));
            }
        }
        if self.check_integers && self.distillation.is_some() {
            let message = "is for runs without a teacher, whose results are no integers";
            return Err(Error::config("check_integers", message));
        }
        if let Some(distillation) = &self.distillation {
            let checked = distillation.check(self.epochs);
            checked.map_err(|error| error.within("distillation"))?;
        }
        if let Some(swa) = &self.swa {
            swa.check(self.epochs).map_err(|e| e.within("swa"))?;
        }
        for (name, number) in [
            ("lr", Some(self.lr)),
            ("threshold_lr", Some(self.threshold_lr)),
            ("clip_norm", self.clip_norm),
        ] {
            if let Some(number) = number.filter(|&n| !(n.is_finite() && n > 0.0)) {
                let message = format!("is {number}, expected a positive number");
                return Err(Error::config(name, message));
            }
        }
        self.check_start(index, has_from)?;
        self.check_algorithms()?;
        self.check_plan()
    }

    /// Whether there is a trained network for the algorithms, whose weights are parameters.
    fn check_algorithms(&self) -> Result<(), Error> {
        check_algorithms(&self.algorithms)?;
        let message = match (self.start, self.plan.fold) {
            _ if self.algorithms.is_empty() => return Ok(()),
            (Start::Scratch, _) => "are for a trained network; give `from`, or a baseline",
            (_, Fold::Training) => {
                "weights that are folded in training are no parameters; expected fold = \"merged\" or \"off\""
            }
            _ => return Ok(()),
        };
        Err(Error::config("algorithms", message))
    }

    fn check_plan(&self) -> Result<(), Error> {
        self.plan.check().map_err(|e| e.within("plan"))?;
        let weight = self.numbers.weight.as_ref().map(|number| &number.format);
        let plan = &self.plan;
        for (name, config) in [
            ("default", &plan.default),
            ("first", &plan.first),
            ("last", &plan.last),
        ] {
            let checked = config.check_sums(weight);
            checked.map_err(|error| error.within(name).within("plan"))?;
        }
        Ok(())
    }

    /// Whether what is done to pixels is done to images.
    fn check_kind(&self, data: DataSet) -> Result<(), Error> {
        let regularization = &self.regularization;
        let field = match (regularization.mixing(), regularization.cutting()) {
            _ if !data.is_text() => return Ok(()),
            (Some(_), _) => "mixup",
            (_, Some(_)) => "cutout",
            _ => return Ok(()),
        };
        let message = format!("changes pixels, and {data} is text");
        Err(Error::config(field, message).within("regularization"))
    }

    /// Whether there is what the first weights come from.
    fn check_start(&self, index: usize, has_from: bool) -> Result<(), Error> {
        let message = match self.start {
            Start::Scratch if self.plan.has_thresholds() => {
                "thresholds are calibrated on a trained network; give `from`, or a baseline"
            }
            Start::First if index == 0 => "is `first`, but this is the first run",
            Start::Teacher if self.distillation.is_none() => "is `teacher`, but there is none",
            Start::From if !has_from => "is `from`, but `from` names no run",
            _ => return Ok(()),
        };
        Err(Error::config("start", message))
    }
}
