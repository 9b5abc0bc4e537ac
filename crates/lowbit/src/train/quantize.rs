//! From a float network to quantized ones: what `lowbit quantize` runs, and what it shows.

use burn::tensor::Device;
use serde::Serialize;

use super::checkpoint;
use super::defaults;
use super::evaluation::measure_run;
use super::experiment::{Experiment, RunConfig};
use super::folder::{RunFolder, find_run, no_checkpoint};
use super::options::Settings;
use super::recipe::Recipe;
use crate::Error;
use crate::calibrate::Measured;
use crate::config::{FLOAT_BITS, Fold, Layer, Method, QPlan};
use crate::data::Split;
use crate::models::Classifier;
use crate::quantizers::{PerSlot, QuantizerConfig, Slot, ThresholdInit, TrainedThresholdConfig};

/// Settings as a quantization of what `from` names takes them: the method is TQT, static unless a
/// comparison retrains it.
#[derive(Debug, Clone, Default)]
pub struct Quantize {
    /// What a person says.
    pub settings: Settings,
}

impl Quantize {
    /// A quantization with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The experiment with one run, static, which trains nothing.
    ///
    /// # Errors
    /// If `from` is neither a run nor a file with a data set and a network beside it, or a field
    /// is out of its range.
    pub fn experiment(&self) -> Result<Experiment, Error> {
        self.check()?;
        let given = &self.settings;
        let [weights, activations] = Method::TQT.usual_bits();
        let bits = (
            given.wbits.unwrap_or(weights),
            given.abits.unwrap_or(activations),
        );
        let weights = given.weight_init.unwrap_or(defaults::STATIC_WEIGHTS);
        let activations = given.init.unwrap_or(defaults::STATIC_ACTIVATIONS);
        let mut plan = given.tqt(bits, |plan| plan.fixed(weights, activations));
        let mut name = format!("tqt-static-w{}a{}", bits.0, bits.1);
        let algorithms = given.algorithms.as_deref().unwrap_or_default();
        if !algorithms.is_empty() {
            // They see the weights that are quantized.
            plan.fold = given.fold.unwrap_or(Fold::Merged);
        }
        for algorithm in algorithms {
            name += &format!("-{algorithm}");
        }
        self.experiment_of(vec![self.run(name, plan, Some(0))?])
    }

    /// The experiment that compares: the float network, static 8 bits from the maximum and from
    /// KL-J, and retrained 8 and 4 bits.
    ///
    /// # Errors
    /// As [`experiment`](Self::experiment).
    pub fn comparison(&self) -> Result<Experiment, Error> {
        self.check()?;
        let max = ThresholdInit::Max;
        let given = &self.settings;
        let fixed = |init| given.tqt((8, 8), |plan| plan.fixed(max, init));
        let retrained = |bits| given.tqt((bits, bits), |plan| plan);
        let epochs = given.epochs;
        self.experiment_of(vec![
            self.run("float".into(), QPlan::float(), Some(0))?,
            self.run("static-max-w8a8".into(), fixed(max), Some(0))?,
            self.run(
                "static-kl-j-w8a8".into(),
                fixed(ThresholdInit::KL_J),
                Some(0),
            )?,
            self.run("retrained-w8a8".into(), retrained(8), epochs)?,
            self.run("retrained-w4a4".into(), retrained(4), epochs)?,
        ])
    }

    /// Whether the method can be calibrated and the widths are in range, by the names that a person
    /// gives them.
    fn check(&self) -> Result<(), Error> {
        if let Some(method) = self.settings.method.filter(|&method| method != Method::TQT) {
            let message = format!("{method} cannot be calibrated, expected tqt");
            return Err(Error::config("method", message));
        }
        let range = TrainedThresholdConfig::BITS;
        let given = [
            ("wbits", self.settings.wbits),
            ("bbits", self.settings.bbits),
            ("abits", self.settings.abits),
        ];
        for (field, bits) in given {
            if let Some(bits) = bits.filter(|bits| *bits != FLOAT_BITS && !range.contains(bits)) {
                let (first, last) = (range.start(), range.end());
                let message =
                    format!("is {bits}, expected {first} to {last}, or {FLOAT_BITS} for float");
                return Err(Error::config(field, message));
            }
        }
        Ok(())
    }

    fn run(&self, name: String, plan: QPlan, epochs: Option<usize>) -> Result<RunConfig, Error> {
        let float = plan == QPlan::float();
        let settings = Settings {
            plan: (!float).then_some(plan),
            method: float.then_some(Method::FLOAT),
            epochs,
            ..self.training()?
        };
        let complete = settings.complete()?;
        let run = complete.runs.into_iter().next_back();
        let mut run = run.expect("a complete experiment has a run");
        run.name = name;
        if run.epochs == 0 {
            run.recipe = Recipe::default();
        }
        Ok(run)
    }

    fn experiment_of(&self, runs: Vec<RunConfig>) -> Result<Experiment, Error> {
        let settings = Settings {
            method: Some(Method::FLOAT),
            algorithms: None,
            ..self.training()?
        };
        let experiment = Experiment {
            runs,
            ..settings.complete()?
        };
        experiment.check()?;
        Ok(experiment)
    }

    /// What is said of anything but what is quantized, and what the source says of data, network
    /// and training where nothing else was given.
    fn training(&self) -> Result<Settings, Error> {
        let given = Settings {
            epochs: None,
            baseline: None,
            ..self.settings.clone().without_quantization()
        };
        let from = given.from.clone();
        let from = from.ok_or_else(|| Error::config("from", "is not given, expected a run"))?;
        if from.is_file() {
            if given.data.is_none() {
                let message = "is not given, and a file with weights does not say it";
                return Err(Error::config("data", message));
            }
            return Ok(given);
        }
        let (_, name, source) = find_run(&from)?;
        let run = source.runs.iter().find(|run| run.name == name);
        if run.is_some_and(|run| run.plan.has_dorefa_weights()) {
            let from = from.display();
            let message =
                format!("{from} is a DoReFa network: it has no float weights to quantize");
            return Err(Error::config("from", message));
        }
        let images = given.inherited_images(source.data, &source.images);
        Ok(given.or(Settings {
            data: Some(source.data),
            data_dir: source.data_dir,
            model: Some(source.model),
            steps: source.steps,
            coding: source.coding,
            batch: Some(source.batch),
            augment: Some(source.augment),
            seed: Some(source.seed),
            ..images
        }))
    }
}

/// What one layer quantizes, and with how many bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerWidths {
    /// Its path.
    pub path: String,
    /// Its type.
    pub layer_type: &'static str,
    /// Bits in each slot that the layer has, its accumulator's among them; none where a tensor stays
    /// in float.
    #[serde(flatten)]
    pub slots: PerSlot<Option<u32>>,
}

/// The widths of every layer of a network, in order.
pub fn layer_widths<M: Classifier>(model: &M) -> Vec<LayerWidths> {
    let widths = |layer: &Layer| {
        let mut slots = PerSlot::default();
        for &slot in &layer.description.slots {
            // Gradients are of training, and a table of widths has them where they are quantized.
            if Slot::is_gradient(slot) && layer.config.get(slot).is_none() {
                continue;
            }
            let bits = match slot {
                Slot::ACCUMULATOR => layer.config.accumulator.as_ref().map(|sum| sum.bits),
                _ => layer.config.get(slot).map(QuantizerConfig::bits),
            };
            slots.set(slot, Some(bits));
        }
        LayerWidths {
            path: layer.path.clone(),
            layer_type: layer.description.name,
            slots,
        }
    };
    model.layers().iter().map(widths).collect()
}

/// A quantized network, layer by layer and tensor by tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantizationReport {
    /// What every layer uses.
    pub layers: Vec<LayerWidths>,
    /// What every trained threshold does to the calibration images.
    pub tensors: Vec<Measured>,
}

/// Reports on the best checkpoint of a run, measured on the images it was calibrated with.
///
/// # Errors
/// If it has none, or that cannot be read.
pub fn quantization_report(
    folder: &RunFolder,
    experiment: &Experiment,
    run: &RunConfig,
    split: &Split,
    device: &Device,
) -> Result<QuantizationReport, Error> {
    let best = folder.checkpoints(&run.name).best()?;
    let path = best.ok_or_else(|| no_checkpoint(&folder.run(&run.name)))?;
    let model = experiment.network(run, split, device)?;
    let model = checkpoint::load_model(model, &path)?;
    Ok(QuantizationReport {
        layers: layer_widths(&model),
        tensors: measure_run(&model, experiment, &run.name, split, device)?,
    })
}
