//! What was trained, looked at.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use super::budget::Budget;
use super::measured::Answers;
use super::widths::{self, SuggestedWidths};
use super::{Analysis, Networks};
use crate::Error;
use crate::calibrate::calibrate;
use crate::config::{Layer, QConfig, QPlan, TqtPlan};
use crate::data::{Split, epoch_order};
use crate::models::{Classifier, Network, Tolerance};
use crate::quantizers::{QuantizerConfig, Slot, ThresholdInit};
use crate::train::{
    Classification, EpochMetrics, Experiment, RunConfig, RunFolder, Tested, checkpoint, find_run,
    forward_calibration, trained_network,
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
}

/// Test images that are looked at unless told.
const IMAGES: usize = 512;

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
    /// How it was trained, epoch by epoch.
    pub epochs: Vec<EpochMetrics>,
}

impl RunAnalysis {
    /// The suggested widths as a file that `lowbit train --config` takes, empty where there are none: the
    /// data, the network, the run to start from, and the plan, whose thresholds train.
    pub fn plan_file(&self) -> String {
        #[derive(Serialize)]
        struct File<'a> {
            data: &'a str,
            model: &'a str,
            from: PathBuf,
            plan: QPlan,
        }

        let Some(found) = &self.suggested else {
            return String::new();
        };
        // A checkpoint lies in `RUN/checkpoints/epoch-N`.
        let from = self.against.as_ref().unwrap_or(&self.checkpoint);
        let from = from.ancestors().nth(2).unwrap_or(from);
        let from = std::path::absolute(from).unwrap_or_else(|_| from.into());
        let file = File {
            data: &self.data,
            model: &self.network,
            from,
            plan: found.best.plan.clone().retrained(),
        };
        toml::to_string(&file).unwrap_or_else(|_| found.best.plan.to_toml())
    }
}

/// Analyzes a run's checkpoint on test images.
///
/// # Errors
/// If the run, the one that it is held against or a checkpoint cannot be read, the other is of another
/// network, or the budget is too small.
pub fn analyze_run(
    (folder, experiment, name): (&RunFolder, &Experiment, &str),
    options: &RunOptions,
    split: &Split,
    device: &Device,
) -> Result<RunAnalysis, Error> {
    let (model, checkpoint) =
        trained_network(folder, experiment, name, options.last, split, device)?;
    let against = options.against.as_deref();
    let float = against
        .map(|path| float_network(path, experiment, split, device))
        .transpose()?;
    let wanted = options.images.unwrap_or(IMAGES);
    if wanted == 0 {
        return Err(Error::config("images", "is 0, expected at least 1"));
    }
    let mut images = epoch_order(split.test.len(), experiment.seed, u32::MAX - 1);
    images.truncate(wanted);
    images.sort_unstable();
    let networks = Networks {
        model: &model,
        float: float.as_ref().map(|(float, _)| float),
        set: &split.test,
        images: &images,
        device,
    };
    let analysis = networks.analyze();
    let run = experiment.runs.iter().find(|run| run.name == name);
    let run = run.expect("its network was built");
    let source = Source {
        experiment,
        run,
        checkpoint: &checkpoint,
        split,
        images: &images,
        device,
    };
    Ok(RunAnalysis {
        run: name.into(),
        network: experiment.model.to_string(),
        data: experiment.data.to_string(),
        suggested: source.suggested(model.layers(), &analysis, options.budget)?,
        against: float.map(|(_, checkpoint)| checkpoint),
        epochs: folder.epochs(name)?,
        checkpoint,
        analysis,
    })
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
    /// Widths for a budget, measured; none where the weights that are stored are not those that are
    /// quantized.
    fn suggested(
        &self,
        layers: &[Layer],
        analysis: &Analysis,
        budget: Option<Budget>,
    ) -> Result<Option<SuggestedWidths>, Error> {
        if self.run.plan.has_dorefa_weights() {
            return match budget {
                None => Ok(None),
                Some(_) => Err(Error::config(
                    "budget",
                    "a DoReFa network has no float weights that other widths could be tried on",
                )),
            };
        }
        let off = (analysis.switched_off, accuracy_of_a_nat(analysis));
        let base = self.base(layers);
        let budget = budget.unwrap_or(Budget::Bits(4.0));
        let measure = |plan: &QPlan| self.measured(plan);
        widths::suggest(&analysis.layers, budget, &base, off, measure).map(Some)
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
/// quantized and the whole one; 0 where none has lost any.
fn accuracy_of_a_nat(analysis: &Analysis) -> f64 {
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
    if squares > 0.0 {
        (products / squares).max(0.0)
    } else {
        0.0
    }
}
