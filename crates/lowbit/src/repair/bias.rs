//! Bias correction: Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight
//! Equalization and Bias Correction", arXiv 1906.04721.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use super::rounding::{first, numbers, passed};
use super::wiring::{ResultChannels, Wired, Wiring};
use super::{Algorithm, Repaired, RepairedTensor};
use crate::Error;
use crate::calibrate::calibrate;
use crate::capture::ModelInput;
use crate::models::{Parameters, with_parameters};
use crate::quantizers::{Place, Slot, set_quantization};

/// Layers whose results for a batch are held at once.
const AT_ONCE: usize = 8;

/// Takes from every bias the mean error of the layer's sums, layer by layer in the order of the forward.
///
/// With `y` the sums of a channel in the float network and `y~` those in the quantized one, the bias
/// becomes `b - (mean(y~) - mean(y))`, where the means are over all places of all batches, and all layers
/// before are quantized and corrected (arXiv 1906.04721, section 4.2, with data as in its appendix D). A
/// layer without a bias whose result a normalization alone reads has the error added to that one's running
/// mean, which is the same. The threshold of a quantized bias is calibrated again.
///
/// `float` is the network as it was trained, of the same layers; its quantizers are off here.
/// `batches` are what both are shown.
///
/// # Errors
/// If there are no batches, the forward cannot be recorded, or a mean is NaN or infinite; with the layer.
pub fn bias_correct<M: Module, I: ModelInput, const O: usize>(
    mut model: M,
    float: &M,
    batches: &[I],
    forward: impl Fn(&M, I) -> Tensor<O>,
) -> Result<(M, Repaired), Error> {
    let example = first(batches, Algorithm::BiasCorrect)?;
    let wiring = Wiring::of(&model, example, &forward)?;
    let (float, _) = set_quantization(float.valid(), false, |_| true);
    let layers: Vec<&Wired> = wiring.layers.iter().collect();
    // Running statistics are those of all clones: what is expected is known before one moves.
    let expected = Means::of(&float, &layers, batches, &forward);
    let mut corrections = Vec::new();
    let mut notes = Vec::new();
    for (layer, expected) in layers.into_iter().zip(expected) {
        let Some((key, sign)) = corrected(layer) else {
            let path = &layer.path;
            notes.push(format!(
                "{path} has neither a bias nor a normalization after it; it stays"
            ));
            continue;
        };
        let found = Means::of_layer(&model.valid(), layer, batches, &forward);
        let error = found.minus(&expected);
        if error.iter().any(|error| !error.is_finite()) {
            return Err(Error::Calibration {
                path: format!("{}.output", layer.path),
                message: "saw a NaN or an infinity".into(),
            });
        }
        model = moved(model, key, sign, &error);
        model = with_new_threshold(model, layer, example, &forward)?;
        corrections.push(Correction {
            layer,
            key,
            sign,
            expected,
            error,
        });
    }
    // What comes after a layer changes none of its sums, so that all are looked at again together.
    let layers: Vec<&Wired> = corrections.iter().map(|c| c.layer).collect();
    let left = Means::of(&model.valid(), &layers, batches, &forward);
    let tensors = corrections.iter().zip(left);
    let repaired = Repaired {
        algorithm: Algorithm::BiasCorrect,
        tensors: tensors.map(|(c, left)| c.repaired(&left)).collect(),
        notes,
    };
    Ok((model, repaired))
}

/// What was taken from a layer's bias.
struct Correction<'a> {
    layer: &'a Wired,
    /// The parameter that took it up, and by which factor.
    key: &'a str,
    sign: f64,
    /// The sums of the float network.
    expected: Means,
    /// The mean error of each channel before.
    error: Vec<f64>,
}

impl Correction<'_> {
    /// What it did, with the sums after it.
    fn repaired(&self, sums: &Means) -> RepairedTensor {
        let mut left = sums.minus(&self.expected);
        if self.sign < 0.0 {
            // What the normalization takes up is still in the sums that it reads.
            let both = left.iter_mut().zip(&self.error);
            both.for_each(|(left, e)| *left -= e);
        }
        RepairedTensor {
            path: self.key.into(),
            before: self.expected.share(&self.error),
            after: self.expected.share(&left),
        }
    }
}

/// The parameter that takes up a layer's error, and by which factor it is taken from it.
fn corrected(layer: &Wired) -> Option<(&String, f64)> {
    let bias = layer.bias.as_ref().map(|key| (key, 1.0));
    bias.or(layer.mean.as_ref().map(|key| (key, -1.0)))
}

/// The network with an error taken from a parameter so many times.
fn moved<M: Module>(model: M, key: &str, times: f64, error: &[f64]) -> M {
    let parameters = Parameters::of(&model);
    let before = parameters.get(key).expect("a recorded parameter");
    let both = before.iter::<f32>().zip(error);
    let values: Vec<f32> = both
        .map(|(b, e)| (f64::from(b) - times * e) as f32)
        .collect();
    let data = TensorData::new(values, before.shape().clone());
    with_parameters(model, BTreeMap::from([(key.to_string(), data)]))
}

/// The network with the threshold of a layer's bias calibrated, which does not depend on what the network is
/// shown: one item is enough.
fn with_new_threshold<M: Module, I: ModelInput, const O: usize>(
    model: M,
    layer: &Wired,
    example: &I,
    forward: &impl Fn(&M, I) -> Tensor<O>,
) -> Result<M, Error> {
    let of_bias = |place: &Place| place.layer == layer.path && place.slot == Slot::BIAS;
    let calibrated = calibrate(model, of_bias, |model: &M| {
        forward(model, example.repeated(1, &example.device()));
    });
    Ok(calibrated?.0)
}

/// The means of the channels of a layer's sums, and their mean square.
#[derive(Default)]
struct Means {
    channels: Vec<f64>,
    mean_square: f64,
}

impl Means {
    /// Those of each layer.
    fn of<M: Module, I: ModelInput, const O: usize>(
        model: &M,
        layers: &[&Wired],
        batches: &[I],
        forward: &impl Fn(&M, I) -> Tensor<O>,
    ) -> Vec<Self> {
        let is_quantized = |layer: &Wired| !with_sums_of(model, layer).1.is_empty();
        let (alone, together): (Vec<&Wired>, Vec<&Wired>) =
            layers.iter().partition(|layer| is_quantized(layer));
        let mut found = BTreeMap::new();
        for layers in together.chunks(AT_ONCE) {
            found.extend(ChannelSums::of(model, layers, batches, forward));
        }
        for layer in alone {
            let (model, _) = with_sums_of(model, layer);
            found.extend(ChannelSums::of(&model, &[layer], batches, forward));
        }
        let of_layer = |layer: &&Wired| found.remove(&layer.path).unwrap_or_default();
        layers
            .iter()
            .map(of_layer)
            .map(ChannelSums::means)
            .collect()
    }

    /// Those of one layer.
    fn of_layer<M: Module, I: ModelInput, const O: usize>(
        model: &M,
        layer: &Wired,
        batches: &[I],
        forward: &impl Fn(&M, I) -> Tensor<O>,
    ) -> Self {
        let mut found = Self::of(model, &[layer], batches, forward);
        found.pop().unwrap_or_default()
    }

    fn minus(&self, other: &Self) -> Vec<f64> {
        let both = self.channels.iter().zip(&other.channels);
        both.map(|(a, b)| a - b).collect()
    }

    /// The mean magnitude of errors over the root mean square of the sums.
    fn share(&self, errors: &[f64]) -> f64 {
        let mean = errors.iter().map(|e| e.abs()).sum::<f64>() / errors.len().max(1) as f64;
        match self.mean_square > 0.0 {
            true => mean / self.mean_square.sqrt(),
            false => 0.0,
        }
    }
}

/// The network in which a layer hands on its sums, not what a quantizer of the result makes of them; and the paths
/// of the quantizers that were on.
fn with_sums_of<M: Module>(model: &M, layer: &Wired) -> (M, Vec<String>) {
    let result = |place: &Place| place.layer == layer.path && place.slot == Slot::OUTPUT;
    set_quantization(model.clone(), false, result)
}

/// What is added up over the numbers of a layer's result.
#[derive(Default)]
struct ChannelSums {
    /// Of each channel the sum.
    sums: Vec<f64>,
    squares: f64,
    count: usize,
}

impl ChannelSums {
    /// Those of layers, by their paths, from one pass over the batches.
    fn of<M: Module, I: ModelInput, const O: usize>(
        model: &M,
        layers: &[&Wired],
        batches: &[I],
        forward: &impl Fn(&M, I) -> Tensor<O>,
    ) -> BTreeMap<String, Self> {
        let mut found: BTreeMap<String, Self> = BTreeMap::new();
        for batch in batches {
            let made = passed(model, layers, Slot::OUTPUT, |model| {
                forward(model, batch.clone())
            });
            for (layer, made) in made {
                let sums = found.entry(layer.path.clone()).or_default();
                sums.add(&made, &layer.channels(&made.shape()[..]));
            }
        }
        found
    }

    fn add(&mut self, made: &TensorData, channels: &ResultChannels) {
        self.sums.resize(channels.count, 0.0);
        let runs = numbers(made).chunks(channels.inner);
        for (at, run) in runs.enumerate() {
            let run = run.iter().map(|&y| f64::from(y));
            self.sums[at % channels.count] += run.clone().sum::<f64>();
            self.squares += run.map(|y| y * y).sum::<f64>();
        }
        self.count += made.num_elements();
    }

    fn means(self) -> Means {
        let of_channel = (self.count / self.sums.len().max(1)).max(1) as f64;
        Means {
            channels: self.sums.iter().map(|sum| sum / of_channel).collect(),
            mean_square: self.squares / self.count.max(1) as f64,
        }
    }
}
