//! Bias correction: Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight
//! Equalization and Bias Correction", arXiv 1906.04721.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use super::rounding::{first, numbers, seen};
use super::wiring::{Wired, Wiring};
use super::{Algorithm, Repaired, RepairedTensor};
use crate::Error;
use crate::calibrate::calibrate;
use crate::capture::ModelInput;
use crate::models::{Parameters, with_parameters};
use crate::quantizers::{Place, Slot, set_quantization};

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
    let mut repaired = Repaired {
        algorithm: Algorithm::BiasCorrect,
        tensors: Vec::new(),
        notes: Vec::new(),
    };
    // Running statistics are those of all clones: what is expected is known before one moves.
    let expected = wiring.layers.iter();
    let expected = expected.map(|layer| Means::of(&float, layer, batches, &forward));
    let expected: Vec<Means> = expected.collect();
    for (layer, expected) in wiring.layers.iter().zip(expected) {
        let Some((key, sign)) = corrected(layer) else {
            let path = &layer.path;
            let note = format!("{path} has neither a bias nor a normalization after it; it stays");
            repaired.notes.push(note);
            continue;
        };
        let found = Means::of(&model.valid(), layer, batches, &forward);
        let error = found.minus(&expected);
        if error.iter().any(|error| !error.is_finite()) {
            return Err(Error::Calibration {
                path: format!("{}.output", layer.path),
                message: "saw a NaN or an infinity".into(),
            });
        }
        model = moved(model, key, sign, &error);
        model = with_new_threshold(model, layer, example, &forward)?;
        let mut left = Means::of(&model.valid(), layer, batches, &forward).minus(&expected);
        if sign < 0.0 {
            // What the normalization takes up is still in the sums that it reads.
            left.iter_mut().zip(&error).for_each(|(left, e)| *left -= e);
        }
        repaired.tensors.push(RepairedTensor {
            path: key.clone(),
            before: expected.share(&error),
            after: expected.share(&left),
        });
    }
    Ok((model, repaired))
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

/// The network with the threshold of a layer's bias calibrated.
fn with_new_threshold<M: Module, I: ModelInput, const O: usize>(
    model: M,
    layer: &Wired,
    example: &I,
    forward: &impl Fn(&M, I) -> Tensor<O>,
) -> Result<M, Error> {
    let of_bias = |place: &Place| place.layer == layer.path && place.slot == Slot::BIAS;
    let calibrated = calibrate(model, of_bias, |model: &M| {
        forward(model, example.clone());
    });
    Ok(calibrated?.0)
}

/// The means of the channels of a layer's sums, and their mean square.
struct Means {
    channels: Vec<f64>,
    mean_square: f64,
}

impl Means {
    fn of<M: Module, I: ModelInput, const O: usize>(
        model: &M,
        layer: &Wired,
        batches: &[I],
        forward: &impl Fn(&M, I) -> Tensor<O>,
    ) -> Self {
        // The sums, not what a quantizer of the result makes of them.
        let result = |place: &Place| place.layer == layer.path && place.slot == Slot::OUTPUT;
        let (model, _) = set_quantization(model.clone(), false, result);
        let (mut sums, mut squares, mut count) = (Vec::new(), 0.0, 0);
        for batch in batches {
            for made in seen(&model, layer, Slot::OUTPUT, |model| {
                forward(model, batch.clone())
            }) {
                let channels = layer.channels(&made.shape()[..]);
                sums.resize(channels.count, 0.0);
                let runs = numbers(&made).chunks(channels.inner);
                for (at, run) in runs.enumerate() {
                    let run = run.iter().map(|&y| f64::from(y));
                    sums[at % channels.count] += run.clone().sum::<f64>();
                    squares += run.map(|y| y * y).sum::<f64>();
                }
                count += made.num_elements();
            }
        }
        let of_channel = (count / sums.len().max(1)).max(1) as f64;
        Self {
            channels: sums.iter().map(|sum| sum / of_channel).collect(),
            mean_square: squares / count.max(1) as f64,
        }
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
