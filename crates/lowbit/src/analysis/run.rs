//! What was trained, looked at.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use super::budget::{Budget, check};
use super::gradients::loss_gradients;
use super::measured::Answers;
use super::repairs::{Patient, SuggestedRepair};
use super::widths::{self, SuggestedWidths};
use super::{Analysis, Networks};
use crate::Error;
use crate::calibrate::calibrate;
use crate::config::{Layer, QConfig, QPlan, TqtPlan};
use crate::data::{DataSet, Split, epoch_order};
use crate::integer::Comparison;
use crate::models::{Classifier, Network, Tolerance};
use crate::quantizers::{QuantizerConfig, Slot, ThresholdInit};
use crate::train::{
    Classification, EpochMetrics, Experiment, NamedTensor, RunConfig, RunFolder, Settings, Tested,
    batch, checkpoint, compare_integers_on, find_run, forward_calibration, to_integers,
    trained_network,
};

/// What is looked at of a run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Test images; 512 unless given.
    pub images: Option<usize>,
    /// A run of the same network in float, to hold it against; without one, the same network with its
    /// quantizers off.
    pub against: Option<PathBuf>,
    /// What suggested widths may take; 4 bits on average unless given.
    pub budget: Option<Budget>,
    /// The last weights instead of the best.
    pub last: bool,
    /// Whether gradients of the loss are kept.
    pub gradients: bool,
}

/// Test images that are looked at unless told.
const IMAGES: usize = 512;

/// Test images on which integers are compared with the simulation.
const IN_INTEGERS: usize = 64;

/// What quantization does to the network of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunAnalysis {
    /// The run's name.
    pub run: String,
    /// The network's name.
    pub network: String,
    /// The data set's.
    pub data: String,
    /// Its checkpoint.
    pub checkpoint: PathBuf,
    /// The checkpoint of the float run that it is held against, if it is.
    pub against: Option<PathBuf>,
    /// What was found.
    #[serde(flatten)]
    pub analysis: Analysis,
    /// Widths for a budget.
    pub suggested: Option<SuggestedWidths>,
    /// What `lowbit quantize --algorithm` would help, where it was tried and does.
    pub repair: Option<SuggestedRepair>,
    /// Why no widths are suggested, where that is so.
    pub not_suggested: Option<String>,
    /// How it was trained, epoch by epoch.
    pub epochs: Vec<EpochMetrics>,
    /// Gradients of the loss of the first images with respect to weights, biases and inputs, with the quantizers
    /// off, where they were asked for.
    #[serde(skip)]
    pub gradients: Vec<NamedTensor>,
    /// The network of integers beside the simulation, on the first images, where it lowers to one.
    pub integers: Option<Comparison>,
    /// Why it does not lower to integers, where that is so.
    pub not_integers: Option<String>,
    /// What was trained, and where training with other widths starts.
    #[serde(skip)]
    settings: Settings,
}

impl RunAnalysis {
    /// The suggested widths as a file that `lowbit train --config` takes: the data, the network, the run
    /// to start from, and the plan, whose thresholds train. `None` where there are none.
    ///
    /// # Errors
    /// If a path is not Unicode, which TOML cannot hold.
    pub fn plan_file(&self) -> Result<Option<String>, Error> {
        let Some(found) = &self.suggested else {
            return Ok(None);
        };
        let settings = Settings {
            plan: Some(found.best.plan.clone().retrained()),
            ..self.settings.clone()
        };
        let text = toml::to_string(&settings);
        text.map(Some)
            .map_err(|error| Error::config("plan", error.to_string()))
    }
}

/// What an experiment says of data and network, and the weights to start from.
fn settings(experiment: &Experiment, from: PathBuf) -> Settings {
    let settings = Settings {
        data: Some(experiment.data),
        data_dir: experiment.data_dir.clone(),
        model: Some(experiment.model),
        steps: experiment.steps,
        coding: experiment.coding,
        from: Some(std::path::absolute(&from).unwrap_or(from)),
        ..Settings::default()
    };
    match experiment.data {
        DataSet::Folder => Settings {
            image_resize: Some(experiment.images.resize),
            image_crop: Some(experiment.images.crop),
            image_mean: Some(experiment.images.mean),
            image_std: Some(experiment.images.std),
            ..settings
        },
        _ => settings,
    }
}

/// Analyzes a run's checkpoint on test images.
///
/// # Errors
/// If the run, the one that it is held against or a checkpoint cannot be read, the other is of another
/// network or of other data, the budget is too small, or widths for it cannot be tried.
pub fn analyze_run(
    (folder, experiment, name): (&RunFolder, &Experiment, &str),
    options: &RunOptions,
    split: &Split,
    device: &Device,
) -> Result<RunAnalysis, Error> {
    let (model, checkpoint) =
        trained_network(folder, experiment, name, options.last, split, device)?;
    let images = images(experiment, options, split)?;
    let run = experiment.runs.iter().find(|run| run.name == name);
    let source = Source {
        experiment,
        run: run.expect("its network was built"),
        checkpoint: &checkpoint,
        split,
        images: &images,
        device,
    };
    let obstacle = source.checked_budget(&model, options.budget)?;
    let against = options.against.as_deref();
    let float = against
        .map(|path| float_network(path, experiment, split, device))
        .transpose()?;
    let networks = Networks {
        model: &model,
        float: float.as_ref().map(|(float, _)| float),
        set: &split.test,
        images: &images,
        device,
    };
    let analysis = networks.analyze();
    let suggested = match obstacle {
        Some(obstacle) => Err(obstacle),
        None => match source.suggested(model.layers(), &analysis, options.budget) {
            Err(error) if options.budget.is_none() => Err(error.to_string()),
            found => Ok(found?),
        },
    };
    let integers = source.integers(&model);
    let from = match options.last {
        true => checkpoint.join(checkpoint::MODEL),
        false => folder.run(name),
    };
    Ok(RunAnalysis {
        run: name.into(),
        network: experiment.model.to_string(),
        data: experiment.data.to_string(),
        not_suggested: suggested.as_ref().err().cloned(),
        suggested: suggested.ok(),
        repair: source.repair(&folder.run(name), &model, &analysis),
        gradients: match options.gradients {
            true => loss_gradients(&model, (&split.test, &images), device),
            false => Vec::new(),
        },
        not_integers: integers.as_ref().err().map(Error::to_string),
        integers: integers.ok(),
        against: float.map(|(_, checkpoint)| checkpoint),
        epochs: folder.epochs(name)?,
        settings: settings(experiment, from),
        checkpoint,
        analysis,
    })
}

/// The test images that are looked at.
fn images(experiment: &Experiment, options: &RunOptions, split: &Split) -> Result<Vec<u32>, Error> {
    let wanted = options.images.unwrap_or(IMAGES);
    if wanted == 0 {
        return Err(Error::config("images", "is 0, expected at least 1"));
    }
    let mut images = epoch_order(split.test.len(), experiment.seed, u32::MAX - 1);
    images.truncate(wanted);
    images.sort_unstable();
    Ok(images)
}

/// The network of a float run, and its checkpoint.
fn float_network(
    path: &Path,
    experiment: &Experiment,
    split: &Split,
    device: &Device,
) -> Result<(Network, PathBuf), Error> {
    let (folder, name, other) = find_run(path)?;
    if other.model != experiment.model {
        let message = format!("is a {}, and the run a {}", other.model, experiment.model);
        return Err(Error::config("against", message));
    }
    if other.data != experiment.data {
        let message = format!("is of {}, and the run of {}", other.data, experiment.data);
        return Err(Error::config("against", message));
    }
    trained_network(&folder, &other, &name, false, split, device)
}

/// Where networks with suggested widths come from.
struct Source<'a> {
    experiment: &'a Experiment,
    run: &'a RunConfig,
    checkpoint: &'a Path,
    split: &'a Split,
    images: &'a [u32],
    device: &'a Device,
}

impl Source<'_> {
    /// Why no other widths can be tried, if so.
    fn obstacle(&self, model: &Network) -> Option<String> {
        if self.run.plan.has_dorefa_weights() {
            let why = "a DoReFa network has no float weights that other widths could be tried on";
            return Some(why.into());
        }
        checkpoint::first_not_finite(model)
    }

    /// Why no other widths can be tried, if so.
    ///
    /// # Errors
    /// If there is a budget, and it is too small or there is an obstacle.
    fn checked_budget(
        &self,
        model: &Network,
        budget: Option<Budget>,
    ) -> Result<Option<String>, Error> {
        let obstacle = self.obstacle(model);
        let Some(budget) = budget else {
            return Ok(obstacle);
        };
        let image = batch(&self.split.test, &self.images[..1], None, self.device).images;
        check(budget, model, image)?;
        match obstacle {
            Some(obstacle) => Err(Error::config("budget", obstacle)),
            None => Ok(None),
        }
    }

    /// The network as integers beside its simulation, in every slot.
    fn integers(&self, model: &Network) -> Result<Comparison, Error> {
        let (set, device) = (&self.split.test, self.device);
        let network = to_integers(model, set, device)?;
        let first = &self.images[..self.images.len().min(IN_INTEGERS)];
        compare_integers_on(&network, model, (set, first), device)
    }

    /// The repair that helps the run of a folder, tried.
    fn repair(
        &self,
        folder: &Path,
        model: &Network,
        analysis: &Analysis,
    ) -> Option<SuggestedRepair> {
        let patient = Patient {
            experiment: self.experiment,
            run: self.run,
            folder,
            layers: model.layers(),
            split: self.split,
            images: self.images,
            device: self.device,
        };
        patient.suggested(analysis, || {
            Answers::of(model, &self.split.test, self.images, self.device)
        })
    }

    /// Widths for a budget, measured.
    fn suggested(
        &self,
        layers: &[Layer],
        analysis: &Analysis,
        budget: Option<Budget>,
    ) -> Result<SuggestedWidths, Error> {
        let off = (analysis.switched_off, accuracy_of_a_nat(analysis));
        let budget = budget.unwrap_or(Budget::Bits(4.0));
        let measure = |plan: &QPlan| self.measured(plan);
        widths::suggest(&analysis.layers, budget, &self.base(layers), off, measure)
    }

    /// The run's plan where every weight and input has a quantizer of trained thresholds, and otherwise
    /// TQT's; thresholds of both start from the least mean square error, as predictions have them.
    fn base(&self, layers: &[Layer]) -> QPlan {
        let is_tqt = |layer: &Layer, slot: &str| {
            matches!(layer.config.get(slot), Some(QuantizerConfig::Tqt(_)))
        };
        let mut weighted = layers
            .iter()
            .filter(|layer| layer.description.weight.is_some());
        let fits =
            weighted.all(|layer| [Slot::WEIGHT, Slot::INPUT].iter().all(|s| is_tqt(layer, s)));
        let plan = match fits {
            true => self.run.plan.clone(),
            false => QPlan {
                fold: self.run.plan.fold,
                ..TqtPlan::new(8, 8).plan()
            },
        };
        from_least_squares(plan)
    }

    /// Loss and accuracy of the run's weights with another plan, calibrated on training images.
    fn measured(&self, plan: &QPlan) -> Result<Tested, Error> {
        let run = RunConfig {
            plan: plan.clone(),
            ..self.run.clone()
        };
        let experiment = self.experiment;
        let model = experiment.network(&run, self.split, self.device)?;
        let tolerance = Tolerance::default();
        let (model, _) = checkpoint::load_weights(model, self.checkpoint, tolerance)?;
        let task = Classification::new(experiment, &run, self.split, self.device);
        let (model, _) = calibrate(
            model,
            |_| true,
            |model| {
                forward_calibration(&task, model, experiment.calibration_images, experiment.seed);
            },
        )?;
        let set = &self.split.test;
        Ok(Answers::of(&model.valid(), set, self.images, self.device).tested())
    }
}

/// A plan whose trained thresholds of weights and inputs start from the least mean square error.
fn from_least_squares(mut plan: QPlan) -> QPlan {
    let parts = [
        &mut plan.default,
        &mut plan.first,
        &mut plan.last,
        &mut plan.unweighted,
    ];
    let overrides = plan.overrides.iter_mut();
    let overrides =
        overrides.flat_map(|item| std::iter::once(&mut item.config).chain(&mut item.set));
    for (slot, quantizer) in parts
        .into_iter()
        .chain(overrides)
        .flat_map(QConfig::slots_mut)
    {
        if let (Slot::WEIGHT | Slot::INPUT, QuantizerConfig::Tqt(config)) = (slot, quantizer) {
            config.init = ThresholdInit::Mse;
        }
    }
    plan
}

/// What accuracy falls by for each nat of loss, by least squares over the networks with a single layer
/// quantized and the whole one; `None` where none has lost any.
fn accuracy_of_a_nat(analysis: &Analysis) -> Option<f64> {
    let single = analysis.layers.iter().filter_map(|layer| layer.measured);
    let tested = single
        .map(|measured| measured.only)
        .chain([analysis.quantized]);
    let off = analysis.switched_off;
    let pairs = tested.map(|t| (t.loss - off.loss, off.accuracy - t.accuracy));
    let lost = pairs.filter(|(loss, _)| *loss > 0.0 && loss.is_finite());
    let (products, squares) = lost.fold((0.0, 0.0), |(products, squares), (loss, accuracy)| {
        (products + loss * accuracy, squares + loss * loss)
    });
    (squares > 0.0).then(|| (products / squares).max(0.0))
}
