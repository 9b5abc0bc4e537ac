//! From a float network to quantized ones: what `lowbit quantize` runs, and what it shows.

use std::path::PathBuf;

use burn::tensor::Device;
use serde::Serialize;

use super::evaluation::{find_run, no_checkpoint};
use super::run::{build, forward_calibration};
use super::trainer::Setting;
use super::{Experiment, Method, Recipe, RunConfig, RunFolder, Settings, checkpoint};
use crate::Error;
use crate::calibrate::{Measured, measure};
use crate::config::{FLOAT_BITS, Fold, QPlan, TqtPlan, Widths};
use crate::data::{DataSet, Split};
use crate::models::{Architecture, Classifier, Tolerance};
use crate::quantizers::{
    QuantizerConfig, ThresholdInit, TrainedThresholdConfig, UNTRAINED_STEP, set_rounding,
};

/// What a person says of a quantization.
#[derive(Debug, Clone, Default)]
pub struct Quantize {
    /// The folder of a run, or a file with the weights of the plain network.
    pub from: PathBuf,
    /// What of a difference between that and the network is accepted.
    pub accept: Tolerance,
    /// The data set; that of the run unless given.
    pub data: Option<DataSet>,
    /// The folder with its files.
    pub data_dir: Option<PathBuf>,
    /// The network; that of the run unless given.
    pub model: Option<Architecture>,
    /// Bits of weights; 8 unless given.
    pub weight_bits: Option<u32>,
    /// Bits of biases; 16 unless given.
    pub bias_bits: Option<u32>,
    /// Bits of activations; 8 unless given.
    pub activation_bits: Option<u32>,
    /// How thresholds of weights are found; `max` unless given.
    pub weight_init: Option<ThresholdInit>,
    /// How thresholds of activations are found; `kl-j` unless given.
    pub activation_init: Option<ThresholdInit>,
    /// Whether each output channel of a weight has its own threshold.
    pub per_channel: bool,
    /// Whether convolutions are folded with the normalizations after them.
    pub fold: Fold,
    /// Other widths for some layers.
    pub widths: Vec<Widths>,
    /// Widths of each layer with a weight.
    pub layer_widths: Vec<u32>,
    /// Training images to calibrate with.
    pub images: Option<usize>,
    /// Epochs of those runs of a comparison that are retrained.
    pub epochs: Option<usize>,
    /// Where all randomness comes from.
    pub seed: Option<u64>,
    /// Threads.
    pub threads: Option<usize>,
}

impl Quantize {
    /// The experiment with one run, static, which trains nothing.
    ///
    /// # Errors
    /// If `from` is neither a run nor a file with a data set and a network beside it, or a field
    /// is out of its range.
    pub fn experiment(&self) -> Result<Experiment, Error> {
        self.check_widths()?;
        let bits = (
            self.weight_bits.unwrap_or(8),
            self.activation_bits.unwrap_or(8),
        );
        let weights = self.weight_init.unwrap_or_default();
        let activations = self.activation_init.unwrap_or(ThresholdInit::KL_J);
        let plan = self.plan(bits, |plan| plan.fixed(weights, activations));
        let name = format!("tqt-static-w{}a{}", bits.0, bits.1);
        self.experiment_of(vec![self.run(name, plan, Some(0))?])
    }

    /// The experiment that compares: the float network, static 8 bits from the maximum and from
    /// KL-J, and retrained 8 and 4 bits.
    ///
    /// # Errors
    /// As [`experiment`](Self::experiment).
    pub fn comparison(&self) -> Result<Experiment, Error> {
        self.check_widths()?;
        let max = ThresholdInit::Max;
        let fixed = |init| self.plan((8, 8), |plan| plan.fixed(max, init));
        let retrained = |bits| self.plan((bits, bits), |plan| plan);
        self.experiment_of(vec![
            self.run("float".into(), QPlan::float(), Some(0))?,
            self.run("static-max-w8a8".into(), fixed(max), Some(0))?,
            self.run(
                "static-kl-j-w8a8".into(),
                fixed(ThresholdInit::KL_J),
                Some(0),
            )?,
            self.run("retrained-w8a8".into(), retrained(8), self.epochs)?,
            self.run("retrained-w4a4".into(), retrained(4), self.epochs)?,
        ])
    }

    /// Whether the widths are in range, by the names that a person gives them.
    fn check_widths(&self) -> Result<(), Error> {
        let range = TrainedThresholdConfig::BITS;
        let given = [
            ("wbits", self.weight_bits),
            ("bbits", self.bias_bits),
            ("abits", self.activation_bits),
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

    fn plan(&self, bits: (u32, u32), with: impl FnOnce(TqtPlan) -> TqtPlan) -> QPlan {
        let plan = TqtPlan {
            bias_bits: self.bias_bits.unwrap_or(16),
            per_channel: self.per_channel,
            ..TqtPlan::new(bits.0, bits.1).all_tensors()
        };
        QPlan {
            fold: self.fold,
            widths: self.widths.clone(),
            layer_widths: self.layer_widths.clone(),
            ..with(plan).plan()
        }
    }

    fn run(&self, name: String, plan: QPlan, epochs: Option<usize>) -> Result<RunConfig, Error> {
        let float = plan == QPlan::float();
        let settings = Settings {
            plan: (!float).then_some(plan),
            method: float.then_some(Method::Float),
            epochs,
            ..self.settings()?
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
            method: Some(Method::Float),
            ..self.settings()?
        };
        let experiment = Experiment {
            runs,
            ..settings.complete()?
        };
        experiment.check()?;
        Ok(experiment)
    }

    /// What the source says of data, network and training, where nothing else was given.
    fn settings(&self) -> Result<Settings, Error> {
        let given = Settings {
            data: self.data,
            data_dir: self.data_dir.clone(),
            model: self.model,
            seed: self.seed,
            threads: self.threads,
            calibration_images: self.images,
            from: Some(self.from.clone()),
            accept: Some(self.accept),
            ..Settings::default()
        };
        if self.from.is_file() {
            if self.data.is_none() {
                let message = "is not given, and a file with weights does not say it";
                return Err(Error::config("data", message));
            }
            return Ok(given);
        }
        let (_, name, source) = find_run(&self.from)?;
        let run = source.runs.iter().find(|run| run.name == name);
        if run.is_some_and(|run| run.plan.has_dorefa_weights()) {
            let from = self.from.display();
            let message =
                format!("{from} is a DoReFa network: it has no float weights to quantize");
            return Err(Error::config("from", message));
        }
        Ok(given.or(Settings {
            data: Some(source.data),
            data_dir: source.data_dir,
            model: Some(source.model),
            batch: Some(source.batch),
            augment: Some(source.augment),
            seed: Some(source.seed),
            ..Settings::default()
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
    /// Bits of its input; none where that stays in float, as for the others.
    pub input: Option<u32>,
    /// Bits of its weight.
    pub weight: Option<u32>,
    /// Bits of its bias.
    pub bias: Option<u32>,
    /// Bits of its sums.
    pub accumulator: Option<u32>,
    /// Bits of its output.
    pub output: Option<u32>,
}

/// The widths of every layer of a network, in order.
pub fn layer_widths<M: Classifier>(model: &M) -> Vec<LayerWidths> {
    let layers = model.layers().iter();
    layers
        .map(|layer| {
            (layer, |slot| {
                layer.config.get(slot).map(QuantizerConfig::bits)
            })
        })
        .map(|(layer, bits)| LayerWidths {
            path: layer.path.clone(),
            layer_type: layer.layer_type.name(),
            input: bits("input"),
            weight: bits("weight"),
            bias: bits("bias"),
            accumulator: layer.config.accumulator.as_ref().map(|sum| sum.bits),
            output: bits("output"),
        })
        .collect()
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
    let path = best.ok_or_else(|| no_checkpoint(&folder.path().join(&run.name)))?;
    let model = checkpoint::load_model(build(experiment, run, split, device)?, &path)?;
    let setting = Setting {
        split,
        batch: experiment.batch,
        augment: None,
        seed: experiment.seed,
        device,
    };
    set_rounding(setting.seed, UNTRAINED_STEP);
    let tensors = measure(&model, |model| {
        forward_calibration(model, experiment.calibration_images, &setting);
    });
    Ok(QuantizationReport {
        layers: layer_widths(&model),
        tensors,
    })
}
