//! Which algorithm of [`repair`](crate::repair) would help a network, why, and what it gives.

use std::path::Path;

use burn::tensor::Device;
use serde::Serialize;

use super::Analysis;
use super::findings::LEAST;
use super::layer::LayerAnalysis;
use super::measured::{Answers, added_loss};
use super::tensor::TensorAnalysis;
use crate::Error;
use crate::config::Layer;
use crate::data::Split;
use crate::models::Classifier;
use crate::quantizers::{QuantizerConfig, Slot};
use crate::repair::Algorithm;
use crate::train::{Experiment, Quantize, RunConfig, Settings, Tested, repaired_network};

/// Channels of a weight are unequal where their ranges are at most this share of the tensor's on average.
const UNEQUAL: f64 = 0.5;

/// The noise of an input is biased where the mean errors of its channels make this share of it.
const BIASED: f64 = 0.1;

/// Rounding of weights is a reason where it is predicted to make this share of what quantization costs.
const ROUNDING: f64 = 0.25;

/// A repair helps where it takes this share of the loss that quantization adds.
const WORTH: f64 = 0.1;

/// What was measured of a network that a repair is made for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "defect", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Defect {
    /// The channels of a weight with one threshold have very unequal ranges.
    UnequalChannels {
        /// The weight's path.
        tensor: String,
        /// The mean over channels of the largest magnitude, over that of the tensor.
        share: f64,
    },
    /// Rounding of weights makes much of what quantization costs.
    RoundedWeights {
        /// The path of the weight that costs most.
        tensor: String,
        /// Its bits.
        bits: f64,
        /// The loss that all weights are predicted to add, in nats.
        loss: f64,
        /// That over what all tensors are predicted to add.
        share: f64,
    },
    /// The error of what a layer reads does not average out.
    BiasedOutputs {
        /// The input's path.
        tensor: String,
        /// The share of its noise that the mean errors of its channels make.
        share: f64,
    },
}

impl Defect {
    /// What is made for it. AdaRound does what GPTQ does, in more time.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::UnequalChannels { .. } => Algorithm::Equalize,
            Self::RoundedWeights { .. } => Algorithm::Gptq,
            Self::BiasedOutputs { .. } => Algorithm::BiasCorrect,
        }
    }
}

/// A repair that was tried and helped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuggestedRepair {
    /// The algorithms, in their order.
    pub algorithms: Vec<Algorithm>,
    /// Why they were tried.
    pub reasons: Vec<Defect>,
    /// The repaired network on the images of the analysis.
    pub measured: Tested,
    /// The command that makes it.
    pub command: String,
}

/// See [`Analysis::defects`].
pub(super) fn defects(layers: &[LayerAnalysis]) -> Vec<Defect> {
    let found = [
        unequal_channels(layers),
        rounded_weights(layers),
        biased_outputs(layers),
    ];
    found.into_iter().flatten().collect()
}

/// Of the weights whose channels are unequal, the one that costs most.
fn unequal_channels(layers: &[LayerAnalysis]) -> Option<Defect> {
    let weights = layers.iter().filter_map(|layer| {
        let weight = layer.tensor(Slot::WEIGHT)?;
        let share = weight.channel_share.filter(|share| *share <= UNEQUAL)?;
        Some((weight, share, now(layer, weight)))
    });
    let (weight, share, _) = weights.max_by(|a, b| a.2.total_cmp(&b.2))?;
    Some(Defect::UnequalChannels {
        tensor: weight.path.clone(),
        share,
    })
}

/// What a tensor is predicted to cost as it is.
fn now(layer: &LayerAnalysis, tensor: &TensorAnalysis) -> f64 {
    let known = layer.prediction(&tensor.slot).and_then(|known| known.now);
    known.unwrap_or(0.0)
}

fn rounded_weights(layers: &[LayerAnalysis]) -> Option<Defect> {
    let all: f64 = layers
        .iter()
        .filter_map(LayerAnalysis::predicted_loss)
        .sum();
    let weights = layers.iter().filter_map(|layer| {
        let weight = layer.tensor(Slot::WEIGHT)?;
        Some((weight, weight.bits?, now(layer, weight)))
    });
    let weights: Vec<_> = weights.collect();
    let loss: f64 = weights.iter().map(|(.., loss)| loss).sum();
    let (most, bits, _) = weights.iter().max_by(|a, b| a.2.total_cmp(&b.2))?;
    (loss > 0.0 && loss >= ROUNDING * all).then(|| Defect::RoundedWeights {
        tensor: most.path.clone(),
        bits: *bits,
        loss,
        share: loss / all,
    })
}

fn biased_outputs(layers: &[LayerAnalysis]) -> Option<Defect> {
    let inputs = layers.iter().filter_map(|layer| {
        let input = layer.tensor(Slot::INPUT)?;
        Some((input, input.bias_share?))
    });
    let (input, share) = inputs.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (share >= BIASED).then(|| Defect::BiasedOutputs {
        tensor: input.path.clone(),
        share,
    })
}

/// A run whose network may be repaired, and how it answered.
pub(super) struct Patient<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) run: &'a RunConfig,
    /// The folder of the run.
    pub(super) folder: &'a Path,
    pub(super) layers: &'a [Layer],
    pub(super) split: &'a Split,
    pub(super) images: &'a [u32],
    pub(super) device: &'a Device,
}

impl Patient<'_> {
    /// The repair with the least loss on the images, if one of those that its defects ask for, or all of them
    /// together, takes a tenth of the loss that quantization adds, beyond two standard errors, and a thousandth
    /// nat. None for a network that `lowbit quantize` cannot make, of other methods or with widths of its own
    /// for each layer, and for one whose loss is no number.
    pub(super) fn suggested(
        &self,
        analysis: &Analysis,
        quantized: impl FnOnce() -> Answers,
    ) -> Option<SuggestedRepair> {
        let added = analysis.quantized.loss - analysis.float.loss;
        if added.is_nan() || added <= 0.0 {
            return None;
        }
        let settings = self.settings()?;
        let trials = trials(analysis.defects());
        if trials.is_empty() {
            return None;
        }
        let quantized = quantized();
        let mut best: Option<(SuggestedRepair, f64)> = None;
        for reasons in trials {
            let algorithms: Vec<Algorithm> = reasons.iter().map(Defect::algorithm).collect();
            let Ok(answers) = self.tried(&settings, &algorithms) else {
                continue;
            };
            let measured = answers.tested();
            let (gain, standard_error) = added_loss(&answers, &quantized);
            let helps = gain > 2.0 * standard_error && gain >= LEAST.max(WORTH * added);
            if helps && best.as_ref().is_none_or(|(_, most)| gain > *most) {
                let command = command(&settings, &algorithms);
                let repair = SuggestedRepair {
                    algorithms,
                    reasons,
                    measured,
                    command,
                };
                best = Some((repair, gain));
            }
        }
        best.map(|(repair, _)| repair)
    }

    /// What `lowbit quantize` has to be told to make such a network from the run, or from what the run was made
    /// of where it was not trained.
    fn settings(&self) -> Option<Settings> {
        let made_of = self.experiment.from.as_deref();
        let from = made_of.filter(|_| self.run.epochs == 0);
        let (mut weights, mut inputs, mut per_channel) = (None, None, false);
        for layer in self.layers {
            if layer.description.weight.is_none() {
                continue;
            }
            let tqt = |slot| match layer.config.get(slot)? {
                QuantizerConfig::Tqt(config) => Some(config),
                _ => None,
            };
            let (weight, input) = (tqt(Slot::WEIGHT)?, tqt(Slot::INPUT)?);
            weights = weights.min(Some(weight.bits)).or(Some(weight.bits));
            inputs = inputs.min(Some(input.bits)).or(Some(input.bits));
            per_channel |= weight.per_channel;
        }
        Some(Settings {
            from: Some(from.unwrap_or(self.folder).into()),
            wbits: Some(weights?),
            abits: Some(inputs?),
            per_channel: per_channel.then_some(true),
            ..Settings::default()
        })
    }

    /// The answers of the repaired network.
    fn tried(&self, settings: &Settings, algorithms: &[Algorithm]) -> Result<Answers, Error> {
        let settings = Settings {
            algorithms: Some(algorithms.to_vec()),
            ..settings.clone()
        };
        let experiment = Quantize::new(settings).experiment()?;
        let network = repaired_network(&experiment, self.split, self.device)?;
        let same = network.layers().iter().all(|layer| {
            let before = self.layers.iter().find(|before| before.path == layer.path);
            let bits = |layer: &Layer, slot| layer.config.get(slot).map(QuantizerConfig::bits);
            let slots = [Slot::WEIGHT, Slot::INPUT];
            let weighted = layer.description.weight.is_some();
            !weighted
                || before.is_some_and(|old| slots.iter().all(|s| bits(old, s) == bits(layer, s)))
        });
        if !same {
            return Err(Error::config(
                "widths",
                "are others than `lowbit quantize` gives".to_owned(),
            ));
        }
        Ok(Answers::of(
            &network,
            &self.split.test,
            self.images,
            self.device,
        ))
    }
}

/// What is tried: what each defect asks for, and all of it together.
fn trials(defects: Vec<Defect>) -> Vec<Vec<Defect>> {
    let each = defects.iter().map(|defect| vec![defect.clone()]);
    let mut trials: Vec<Vec<Defect>> = each.collect();
    if defects.len() > 1 {
        trials.push(defects);
    }
    trials
}

/// The command that repairs with these algorithms.
fn command(settings: &Settings, algorithms: &[Algorithm]) -> String {
    let from = settings
        .from
        .as_ref()
        .map(|from| from.display().to_string());
    let bits = |bits: Option<u32>| bits.map_or(String::new(), |bits| bits.to_string());
    let names: Vec<&str> = algorithms
        .iter()
        .map(|algorithm| algorithm.name())
        .collect();
    let per_channel = if settings.per_channel == Some(true) {
        " --per-channel"
    } else {
        ""
    };
    format!(
        "lowbit quantize --from {} --wbits {} --abits {}{per_channel} --algorithm {}",
        quoted(&from.unwrap_or_default()),
        bits(settings.wbits),
        bits(settings.abits),
        names.join(",")
    )
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
