//! A network that is learned from.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::super::checkpoint;
use super::super::defaults;
use super::super::experiment::{Experiment, RunConfig};
use super::super::folder::{best_checkpoint, find_run, run_of};
use super::super::options::Settings;
use super::super::weights_hash::each_tensor;
use crate::Error;
use crate::config::{Method, QPlan};
use crate::data::Split;
use crate::models::{Architecture, Classifier, LoadReport, Network, Stages, Tolerance};
use crate::quantizers::{UNTRAINED_STEP, learned, with_rounding};

/// Which network is learned from, and with which weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// The folder of a run, whose best weights are meant; a checkpoint of one; or a file with the
    /// weights of the network that `model` and `plan` say.
    pub path: PathBuf,
    /// MD5 of names, shapes and values of its weights, of a file of another program its bytes: a
    /// teacher that has changed since is refused.
    pub md5: String,
    /// The network, where the teacher is a plain file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Architecture>,
    /// What of it is quantized; nothing unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<QPlan>,
}

impl TeacherConfig {
    /// The teacher that settings name, which is read to take note of its weights.
    pub(super) fn of(settings: &Settings) -> Result<Self, Error> {
        let path = settings.teacher.as_ref().expect("the caller has seen it");
        let path = std::path::absolute(path).map_err(Error::io(path))?;
        let of_file = [
            "teacher_model",
            "teacher_method",
            "teacher_wbits",
            "teacher_abits",
        ];
        let said = settings.first(|option| of_file.contains(&option.name));
        let config = Self {
            path,
            model: settings.teacher_model,
            ..Self::nobody()
        };
        let run = config.run()?;
        let is_run = run.is_some();
        if let Some(field) = said.filter(|_| is_run) {
            let message = "the teacher is a run, whose configuration says it";
            return Err(Error::config(field, message));
        }
        if !is_run && config.model.is_none() {
            let message = "a file of weights does not say of which network they are";
            return Err(Error::config("teacher_model", message));
        }
        let data = settings.data.unwrap_or(defaults::DATA);
        if let Some((other, _)) = run.filter(|(other, _)| other.data != data) {
            let message = format!("was trained on {}, the student learns {data}", other.data);
            return Err(Error::config("teacher", message));
        }
        let md5 = md5_of_weights(&config.weights()?)?;
        let plan = (!is_run).then(|| plan_of_file(settings)).transpose()?;
        let plan = plan.filter(|plan| *plan != QPlan::float());
        Ok(Self {
            md5,
            plan,
            ..config
        })
    }

    /// A teacher that there is not, to look at what is said beside.
    pub(in super::super) fn nobody() -> Self {
        Self {
            path: PathBuf::new(),
            md5: String::new(),
            model: None,
            plan: None,
        }
    }

    /// The run that the teacher is, and its experiment; none where it is a plain file.
    fn run(&self) -> Result<Option<(Experiment, RunConfig)>, Error> {
        let path = &self.path;
        std::fs::metadata(path).map_err(Error::io(path))?;
        // A plain file may lie anywhere.
        let holds_run = path.is_dir() || path.ends_with(checkpoint::MODEL);
        match run_of(path).filter(|_| holds_run) {
            Some(run) => Ok(Some(run)),
            None if path.is_file() => Ok(None),
            // Tells what is wrong with it.
            None => find_run(path).map(|_| None),
        }
    }

    /// The file with the weights.
    fn weights(&self) -> Result<PathBuf, Error> {
        let path = &self.path;
        if path.is_file() {
            return Ok(path.clone());
        }
        let own = path.join(checkpoint::MODEL);
        match own.is_file() {
            true => Ok(own),
            false => Ok(best_checkpoint(path)?.join(checkpoint::MODEL)),
        }
    }

    /// The network, data set and plan that the teacher was trained with, as far as it says.
    pub(in super::super) fn experiment(path: &Path) -> Option<(Experiment, RunConfig)> {
        let path = std::path::absolute(path).ok()?;
        let config = Self {
            path,
            ..Self::nobody()
        };
        config.run().ok().flatten()
    }

    /// Its network and, of a run, that run's name: `resnet20 dorefa-w8a8`; of a file, the file's.
    pub fn name(&self) -> String {
        if let Some((experiment, run)) = Self::experiment(&self.path) {
            return format!("{} {}", experiment.model, run.name);
        }
        let file = self.path.file_name().unwrap_or_default();
        file.to_string_lossy().into_owned()
    }

    /// The plan, as the run or the file has it.
    fn plan(&self) -> Result<QPlan, Error> {
        Ok(match self.run()? {
            Some((_, run)) => run.plan,
            None => self.plan.clone().unwrap_or_else(QPlan::float),
        })
    }

    /// Whether the weights are those that were taken note of.
    ///
    /// # Errors
    /// If they are not, or cannot be read.
    pub(in super::super) fn check_unchanged(&self) -> Result<(), Error> {
        let md5 = md5_of_weights(&self.weights()?)?;
        if md5 == self.md5 {
            return Ok(());
        }
        let path = self.path.display();
        let message = format!("{path} has other weights than when the run was made");
        Err(Error::config("teacher", message))
    }

    /// The network with its weights, in validation form.
    fn network(&self, split: &Split, device: &Device) -> Result<Network, Error> {
        let weights = self.weights()?;
        let Some((experiment, run)) = self.run()? else {
            return self.plain(&weights, split, device);
        };
        self.check_kind(experiment.model, split)?;
        let model = experiment.network(&run, split, device)?;
        let folder = weights.parent().expect("a checkpoint is in a folder");
        Ok(checkpoint::load_model(model, folder)?.valid())
    }

    /// Whether a network of text is to teach text, and one of images images.
    fn check_kind(&self, model: Architecture, split: &Split) -> Result<(), Error> {
        let kind = |is_text| if is_text { "text" } else { "images" };
        let (of_model, of_data) = (model.reads_text(), split.train.answers() > 1);
        if of_model == of_data {
            return Ok(());
        }
        let path = self.path.display();
        let [read, learned] = [of_model, of_data].map(kind);
        let message =
            format!("{path} is {model}, which reads {read}; its student learns from {learned}");
        Err(Error::config("teacher", message))
    }

    fn plain(&self, weights: &Path, split: &Split, device: &Device) -> Result<Network, Error> {
        let set = &split.train;
        let input = [set.channels, set.height, set.width];
        let model = self.model.expect("a plain file comes with a network");
        self.check_kind(model, split)?;
        let model = model.init(input, set.classes, &self.plan()?, 0, device)?;
        let (model, report) = checkpoint::load_weights(model, weights, Tolerance::default())?;
        let unset = learned(&model).into_iter();
        let unset = unset.filter(|l| l.learned.calibrated && !report.loaded.contains(&l.key));
        if let Some(missing) = unset.map(|l| l.key).next() {
            let path = weights.into();
            let message = format!("lacks {missing}, which the teacher's quantizers learn");
            return Err(Error::Checkpoint { path, message });
        }
        Ok(model.valid())
    }

    /// A student with those of the teacher's parameters and statistics that have its names and
    /// shapes, and what became of each.
    ///
    /// # Errors
    /// If there are none, or the teacher's normalizations are merged into its convolutions and the
    /// student's are not, or the other way round.
    pub(in super::super) fn start(&self, student: Network) -> Result<(Network, LoadReport), Error> {
        let merged = |fold: crate::config::Fold| fold == crate::config::Fold::Merged;
        if merged(self.plan()?.fold) && !merged(student.fold()) {
            let message = "the teacher's normalizations are merged into its convolutions";
            return Err(Error::config("start_from_teacher", message));
        }
        let tolerance = Tolerance {
            missing: true,
            unexpected: true,
            other_shape: true,
        };
        checkpoint::load_weights(student, &self.weights()?, tolerance)
    }
}

/// What of the network in a plain file is quantized.
fn plan_of_file(settings: &Settings) -> Result<QPlan, Error> {
    let widths = settings.teacher_wbits.is_some() || settings.teacher_abits.is_some();
    let method = match settings.teacher_method {
        None if widths => {
            let message = "widths are given, expected the method, too";
            return Err(Error::config("teacher_method", message));
        }
        method => method.unwrap_or(Method::FLOAT),
    };
    let of_teacher = Settings {
        method: Some(method),
        wbits: settings.teacher_wbits,
        abits: settings.teacher_abits,
        ..Settings::default()
    };
    let plan = of_teacher.method_plan().map(|(_, plan)| plan);
    plan.map_err(|error| match error {
        Error::Config { field, message } => Error::config(format!("teacher_{field}"), message),
        other => other,
    })
}

/// MD5 of the weights in a file, in hexadecimal digits.
fn md5_of_weights(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    if path.extension().is_none_or(|extension| extension != "bpk") {
        return Ok(format!("{:x}", md5::compute(bytes)));
    }
    let mut context = md5::Context::new();
    each_tensor(path, bytes, |part| context.consume(part))?;
    Ok(format!("{:x}", context.finalize()))
}

/// A network in its validation form, for others to learn from.
#[derive(Debug)]
pub struct Teacher {
    model: Network,
    seed: u64,
}

impl Teacher {
    /// Reads a teacher of images like those of `split`; `seed` is that of its random numbers, if it
    /// rounds at random.
    ///
    /// # Errors
    /// If it cannot be read, or its weights have changed since the configuration took note of them.
    pub fn load(
        config: &TeacherConfig,
        split: &Split,
        seed: u64,
        device: &Device,
    ) -> Result<Self, Error> {
        config.check_unchanged()?;
        let model = config.network(split, device)?;
        Ok(Self { model, seed })
    }

    /// The network.
    pub fn model(&self) -> &Network {
        &self.model
    }

    /// The network in its training form.
    ///
    /// # Errors
    /// If its quantizers learn.
    pub(super) fn learning(&self) -> Result<Network, Error> {
        if let Some(parameter) = learned(&self.model).into_iter().next() {
            let message = format!("learns {}, which co-studying does not train", parameter.key);
            return Err(Error::config("teacher", message));
        }
        Ok(self.model.clone().train())
    }

    /// What it computes of images, on which no gradient goes back. What a student rounds at random
    /// afterwards does not depend on it.
    pub fn stages(&self, images: Tensor<4>) -> Stages {
        with_rounding(self.seed, UNTRAINED_STEP, || {
            self.model.stages(images.inner())
        })
    }
}
